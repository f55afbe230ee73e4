# SPDX-License-Identifier: Apache-2.0
"""Recorded verdicts, asked of the rules one by one, and of what the kernel would hold."""

from __future__ import annotations

import json
from functools import cache

import pytest

from ciliumpy.enforcement.encode import Numbers, encode
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.model.labels import Label, parse
from ciliumpy.model.options import PolicyOptions
from ciliumpy.policy.compile import Named
from ciliumpy.policy.compiled import Bound
from ciliumpy.policy.oracle import judge
from ciliumpy.policy.prefixes import named_by
from ciliumpy.policy.repository import Repository
from ciliumpy.policy.resolve import port_label
from tests.unit.policy.lookup import lookup
from tests.unit.policy.truth import End, World, cases, kubernetes, lines

SIZE = 1024
PART = 50
PODS = PolicyOptions(cidr_match_mode=("pods",))


def test_the_recorded_cases_are_whole():
    assert len(lines()) == 1500
    assert sum(len(json.loads(line)["queries"]) for line in lines()) == 75401


@pytest.mark.parametrize("first", range(0, 1500, PART))
def test_clusters(first: int):
    for case in cases(slice(first, first + PART)):
        assert set(case.refused) == case.expected_refused, (case.world.id, case.refused)
        check(case.world)


def test_everything_that_is_refused_says_what_is_wrong_with_which_field():
    found = {}
    refusing = [number for number, line in enumerate(lines()) if json.loads(line)["refused"]]
    for case in (next(cases(slice(number, number + 1))) for number in refusing):
        for key, said in case.refused.items():
            assert said.startswith("spec"), said
            found[case.because[key]] = said
    assert len(found) == 55


def test_kubernetes_own_rules_where_cidrs_match_pods_too():
    count = 0
    for world in kubernetes(PODS):
        check(world)
        count += len(world.questions)
    assert count == 2 * 37152


def test_only_blocks_over_pods_are_judged_otherwise_than_by_kubernetes():
    """A CIDR is about what is outside: of the cells that differ, every one is of a policy with a block."""
    differing = set()
    for world in kubernetes(PolicyOptions()):
        blocks = named_by(rule for rules in world.policies.values() for rule in rules)
        for number, (question, verdict) in enumerate(zip(world.questions, check(world, recorded=False), strict=True)):
            if verdict != question.verdict:
                assert (verdict, bool(blocks)) == ("denied", True), (world.id, question)
                differing.add((world.id, number // 2))  # a cell is two questions
    assert len(differing) == 189


@cache
def parsed(end: End) -> tuple[Label, ...]:
    return tuple(parse(text) for text in labels(end))


def labels(end: End) -> tuple[str, ...]:
    """Its labels as vectors have them: with its named ports."""
    return (*end.labels, *(port_label(*port) for port in end.ports))


def check(world: World, *, recorded: bool = True) -> list[str]:
    """Ask all questions of the rules and of the rows; both must agree, and with what is recorded. The verdicts."""
    repository = Repository(world.options)
    for key, rules in world.policies.items():
        repository.set_policy(key, rules)
    identities = {end: number for number, end in enumerate({q[side] for q in world.questions for side in (0, 1)}, 1)}
    vectors = Vectors(SIZE, {})
    for end, number in identities.items():
        vectors.set_identity(number, labels(end))
        repository.set_ports(number, end.ports)
    bits: dict[object, int] = {}
    sets = {}
    for end in {question.subject for question in world.questions}:
        number = identities[end]
        repository.set_subject(number, end.labels)
        compiled = repository.compile(number, end.ports)
        for selector in sorted(compiled.selectors()):
            bits.setdefault(selector, len(bits))
        sets[end], _ = encode(compiled, number, bits, Numbers(), repository.revision, SIZE)
    vectors.give(bits)
    words = {number: vectors.row(number).words for number in identities.values()}
    every = [Named(rule, Bound(*key, rule.path)) for key, rules in world.policies.items() for rule in rules]
    by_name = {str(named.bound): named for named in every}

    found = []
    for question in world.questions:
        asked = (question.direction, parsed(question.subject), parsed(question.peer), *question[3:5], world.options)
        judgement = judge(every, *asked)
        expected = (question.verdict, question.reason or judgement.reason) if recorded else judgement[:2]
        assert judgement[:2] == expected, (world.id, question)
        row = sets[question.subject]
        answer = lookup(row, words, identities[question.peer], *question[2:5])
        assert answer.verdict == judgement.verdict, (world.id, question)
        assert bool(answer.rules) is (judgement.reason == "policy"), (world.id, question)
        for name in answer.rules:
            one = judge([by_name[name]], *asked)
            assert one.reason == "policy", f"{name} is named and does not say so itself: {world.id} {question}"
        found.append(judgement.verdict)
    return found
