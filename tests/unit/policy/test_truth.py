# SPDX-License-Identifier: Apache-2.0
"""Recorded verdicts of the reference engine, asked of the rules, and of what the kernel would hold."""

from __future__ import annotations

import pytest

from ciliumpy.enforcement.encode import Numbers, encode
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.model.labels import parse
from ciliumpy.model.options import PolicyOptions
from ciliumpy.policy.oracle import judge
from ciliumpy.policy.repository import Repository
from tests.unit.policy.lookup import lookup
from tests.unit.policy.truth import Case, cases

SIZE = 1024
CASES = cases()


def test_the_sample_is_whole():
    assert len(CASES) == 195
    assert sum(len(case.questions) for case in CASES) == 7585
    assert len({why for case in CASES for why in case.because.values()}) >= 45


def test_what_the_engine_refuses_is_refused_and_nothing_else():
    for case in CASES:
        assert set(case.refused) == case.expected_refused, case.id


@pytest.mark.parametrize("case", [case for case in CASES if case.questions], ids=lambda case: case.id)
def test_verdicts(case: Case):
    assert not case.notices, "everything in these cases is supported"
    options = PolicyOptions(enforcement=case.enforcement)
    repository = Repository(options)
    for key, rules in case.policies.items():
        repository.set_policy(key, rules)
    identities = {
        labels: number for number, labels in enumerate({q[side] for q in case.questions for side in (0, 1)}, 1)
    }
    vectors = Vectors(SIZE, {})
    for labels, number in identities.items():
        vectors.set_identity(number, labels)
    bits: dict[object, int] = {}
    sets = {}
    for labels in {question.subject for question in case.questions}:
        repository.set_subject(identities[labels], labels)
        compiled = repository.compile(identities[labels])
        for selector in sorted(compiled.selectors()):
            bits.setdefault(selector, len(bits))
        sets[labels] = encode(compiled, identities[labels], bits, Numbers(), repository.revision, SIZE)
    vectors.give(bits)
    words = {number: vectors.row(number).words for number in identities.values()}

    for question in case.questions:
        subject = tuple(parse(text) for text in question.subject)
        peer = tuple(parse(text) for text in question.peer)
        rules = [named for labels in sets for named in repository.rules_of(identities[labels])]
        asked = (
            question.direction,
            subject,
            peer,
            question.protocol,
            question.port,
            PolicyOptions(enforcement=case.enforcement),
        )
        judgement = judge(rules, *asked)
        assert (judgement.verdict, judgement.reason) == (question.verdict, question.reason), question

        row = sets[question.subject]
        answer = lookup(row, words, identities[question.peer], *question[2:5])
        assert answer.verdict == question.verdict, question
        if question.reason == "policy":
            assert answer.rules, question
            named = set(answer.rules)
            agreeing = {str(n.bound) for n in rules if judge([n], *asked[:-1]).reason == "policy"}
            assert named <= agreeing, "only rules that say so themselves are named"
        else:
            assert not answer.rules, question
