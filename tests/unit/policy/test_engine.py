# SPDX-License-Identifier: Apache-2.0
"""Compiled, encoded and looked up as the kernel does it, against the oracle; incremental against from scratch."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciliumpy.enforcement.encode import DoesNotFitError, Numbers, encode, fit_ranges
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.model.labels import parse
from ciliumpy.model.rule import Rule
from ciliumpy.model.selectors import EVERYBODY, all_of, equals
from ciliumpy.model.verdicts import Direction, Tier, Verdict
from ciliumpy.policy import selector_cache
from ciliumpy.policy.compile import compile_policy
from ciliumpy.policy.compiled import Bound
from ciliumpy.policy.oracle import judge
from ciliumpy.policy.prepared import Named
from ciliumpy.policy.repository import PolicyKey, Repository
from ciliumpy.policy.resolve import PortNumbers, port_label, resolve
from ciliumpy.policy.selector_cache import SelectorCache
from ciliumpy.tables.enforcement import PortRow
from tests.soak import scaled
from tests.unit.policy.lookup import lookup
from tests.unit.policy.strategies import (
    PORTS,
    PROTOCOLS,
    label_sets,
    options,
    port_numbers,
    rules,
    selectors,
    services,
)

SIZE = 256


@settings(max_examples=scaled(150), deadline=None)
@given(
    st.lists(rules(), max_size=8),
    label_sets,
    port_numbers,
    st.lists(st.tuples(label_sets, port_numbers), min_size=1, max_size=4, unique_by=lambda peer: peer[0]),
    services,
    options,
)
def test_the_kernel_says_what_the_rules_say(found, subject, own_ports, peers, known_services, chosen):
    repository = Repository(chosen)
    named = [Named(rule, Bound("Policy", "", str(i), rule.path)) for i, rule in enumerate(found)]
    for rule, bound in named:
        repository.set_policy(PolicyKey(*bound_key(bound)), [rule])
    for service in known_services:
        repository.set_service(service)
    for number, (_, ports) in enumerate(peers, 1):
        repository.set_ports(number, ports)
    repository.set_subject(1000, subject)
    compiled = repository.compile(1000, own_ports)
    bits = {selector: SIZE - 1 - i * 3 for i, selector in enumerate(sorted(compiled.selectors()))}
    row, _ = encode(compiled, 1, bits, Numbers(), 1, SIZE)
    vectors = Vectors(SIZE, bits)
    for number, (labels, ports) in enumerate(peers, 1):
        vectors.set_identity(number, with_ports(labels, ports))
    words = {number: vectors.row(number).words for number in range(1, len(peers) + 1)}
    parsed = tuple(parse(text) for text in with_ports(subject, own_ports))
    own = {str(n.bound) for n in repository.rules_of(1000)}
    for (number, (labels, ports)), direction, protocol, port in product(
        enumerate(peers, 1), Direction, PROTOCOLS, PORTS if own else [80]
    ):
        peer = tuple(parse(text) for text in with_ports(labels, ports))
        wanted = judge(named, direction, parsed, peer, protocol, port, chosen, known_services)
        answer = lookup(row, words, number, direction, protocol, port)
        assert answer.verdict == wanted.verdict
        assert bool(answer.rules) == (wanted.reason == "policy")
        if wanted.named:
            saying = {str(n.bound) for n in named if n.rule.verdict is wanted.named.rule.verdict}
            assert set(answer.rules) <= saying & own


def bound_key(bound: Bound) -> tuple[str, str, str]:
    return bound.kind, bound.namespace, bound.name


def with_ports(labels: tuple[str, ...], ports: PortNumbers) -> tuple[str, ...]:
    return (*labels, *(port_label(*port) for port in ports))


@pytest.mark.parametrize("skipped", [Verdict.ALLOW, Verdict.DENY])
def test_a_pass_skips_what_stands_beside_the_next_tier(skipped):
    """The level that it skips and the next tier's say the same, and must not become one all the same."""
    a, b, c = (all_of(equals("k8s", "app", name)) for name in "abc")
    rules = [
        Rule("0", EVERYBODY, Direction.INGRESS, Verdict.PASS, (a,), None, tier=Tier.ADMIN),
        Rule("1", EVERYBODY, Direction.INGRESS, skipped, (a, b), None, tier=Tier.ADMIN, priority=1),
        Rule("2", EVERYBODY, Direction.INGRESS, skipped, (c,), None, tier=Tier.NORMAL),
        Rule("3", EVERYBODY, Direction.INGRESS, Verdict.ALLOW, (a,), None, tier=Tier.BASELINE, default_deny=False),
    ]
    compiled = compile_policy([Named(rule, Bound("Policy", "", "p", rule.path)) for rule in rules])
    assert [(level.tier, level.verdict) for level in compiled.ingress.default][:3] == [
        (Tier.ADMIN, Verdict.PASS),
        (Tier.ADMIN, skipped),
        (Tier.NORMAL if skipped is Verdict.DENY else Tier.BASELINE, skipped),
    ]


@settings(max_examples=scaled(100), deadline=None)
@given(st.lists(rules(), max_size=6), label_sets, st.randoms())
def test_the_order_of_rules_does_not_matter(found, subject, random):
    named = [
        Named(one, Bound("Policy", "", str(i), rule.path)) for i, rule in enumerate(found) for one in resolve(rule)
    ]
    shuffled = random.sample(named, len(named))
    assert compile_policy(named) == compile_policy(shuffled)


@settings(max_examples=scaled(100), deadline=None)
@given(st.lists(rules(), min_size=1, max_size=6), label_sets)
def test_a_peer_without_a_vector_is_never_allowed_by_a_selector(found, subject):
    """An identity that the kernel does not know yet meets every deny, and of the rest what is for everybody only."""
    compiled = compile_policy(
        [Named(rule, Bound("Policy", "", "p", rule.path)) for one in found for rule in resolve(one)]
    )
    bits = {selector: i for i, selector in enumerate(sorted(compiled.selectors()))}
    row, _ = encode(compiled, 1, bits, Numbers(), 1, SIZE)
    denied_for_all = {1: b"\xff" * (SIZE // 8)}
    for direction, protocol, port in product(Direction, PROTOCOLS, PORTS):
        answer = lookup(row, {}, 1, direction, protocol, port)
        if answer.verdict != "denied" and answer.matched:
            nobody = lookup(row, {1: bytes(SIZE // 8)}, 1, direction, protocol, port)
            assert nobody.verdict == answer.verdict, "open for everybody, so for one who meets nothing as well"
            assert lookup(row, denied_for_all, 1, direction, protocol, port).matched


def test_a_pod_whose_labels_nobody_has_told_is_closed():
    repository = Repository()
    repository.set_subject(5, ("reserved:init",))
    compiled = repository.compile(5)
    assert (compiled.ingress.enforced, compiled.egress.enforced) == (True, True)
    assert (compiled.ingress.default, compiled.egress.default) == ((), ())
    assert repository.set_subject(5, ("k8s:app=web",)) == {5}
    assert not repository.compile(5).egress.enforced


class TestRanges:
    @staticmethod
    def rows(*spans: tuple[int, int, int]) -> list[PortRow]:
        return [PortRow(0, 6, first, last, number) for first, last, number in spans]

    def test_a_range_runs_over_the_exact_rows_inside_it(self):
        fitted = fit_ranges(self.rows((1, 79, 7), (80, 80, 8), (81, 65535, 7)))
        assert {(r.first, r.last, r.class_id) for r in fitted} == {(1, 65535, 7), (80, 80, 8)}

    def test_a_hole_is_kept(self):
        rows = self.rows((1, 79, 7), (81, 65535, 7))
        assert fit_ranges(rows) == rows

    def test_narrow_ranges_become_exact_rows_where_there_are_too_many(self):
        fitted = fit_ranges(self.rows(*((at, at + 1, 7) for at in range(0, 800, 4)), (1000, 65535, 9)))
        ranges = [row for row in fitted if row.first != row.last]
        assert len(ranges) == 64
        covered = {port for row in fitted if row.class_id == 7 for port in range(row.first, row.last + 1)}
        assert covered == {at + step for at in range(0, 800, 4) for step in (0, 1)}

    def test_too_many_wide_ranges_are_refused(self):
        with pytest.raises(DoesNotFitError, match="it needs 73 port ranges of one protocol, 64 fit"):
            fit_ranges(self.rows(*((at, at + 500, 7) for at in range(0, 65000, 900))))


cache_steps = st.lists(
    st.one_of(
        st.tuples(st.just("identity"), st.integers(1, 5), label_sets),
        st.tuples(st.just("many"), st.dictionaries(st.integers(1, 5), label_sets), st.booleans()),
        st.tuples(st.just("gone"), st.integers(1, 5)),
        st.tuples(st.just("acquire"), st.integers(0, 3)),
        st.tuples(st.just("release"), st.integers(0, 3)),
    ),
    max_size=25,
)


@settings(max_examples=scaled(150), deadline=None)
@given(st.lists(selectors, min_size=4, max_size=4, unique=True), cache_steps)
def test_the_cache_is_what_matching_everything_gives(known, steps):
    cache = SelectorCache()
    identities: dict[int, tuple[str, ...]] = {}
    used: list[int] = []
    for step in steps:
        match step:
            case "identity", number, labels:
                met = cache.met_by(number)
                changed = cache.set_identity(number, labels)
                identities[number] = labels
                assert changed == (cache.met_by(number) != met)
            case "many", found, at_once:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(selector_cache, "FEW", 1 if at_once else 100)
                    assert all(step is None for step in cache.set_identities(found))
                identities |= found
            case "gone", number:
                cache.remove_identity(number)
                identities.pop(number, None)
            case "acquire", at:
                assert cache.acquire(known[at]) == (at not in used)
                used.append(at)
            case "release", at if at in used:
                used.remove(at)
                assert cache.release(known[at]) == (at not in used)
        for at in range(4):
            wanted = {n for n, labels in identities.items() if known[at].matches([parse(t) for t in labels])}
            assert cache.members(known[at]) == (wanted if at in used else set())
        for number in identities:
            met = {known[at] for at in used if number in cache.members(known[at])}
            assert cache.met_by(number) == met
            assert cache.row(number, 64) == sum(1 << cache.number(one) for one in met).to_bytes(8, "little")
    for at in used:
        cache.release(known[at])
    for number in identities:
        cache.remove_identity(number)
    kept = {name: value for name, value in vars(cache._index).items() if value}
    assert not kept, "nothing is left over"
    assert not cache._met.any()
    assert not cache._pivots
    assert not cache._unindexed


repository_steps = st.lists(
    st.one_of(
        st.tuples(st.just("policy"), st.integers(0, 3), st.lists(rules(), max_size=3)),
        st.tuples(st.just("gone"), st.integers(0, 3)),
        st.tuples(st.just("subject"), st.integers(1, 4), label_sets),
        st.tuples(st.just("left"), st.integers(1, 4)),
        st.tuples(st.just("services"), services),
        st.tuples(st.just("no service"), st.sampled_from(["one", "two"]), st.sampled_from(["x", "y"])),
        st.tuples(st.just("ports"), st.integers(1, 3), port_numbers),
    ),
    max_size=15,
)
OWN = ((6, "http", 80),)


@settings(max_examples=scaled(100), deadline=None)
@given(repository_steps, options)
def test_what_a_change_does_not_name_has_not_changed(steps, chosen):
    """Recompiling only the identities that a change returns gives what compiling all from scratch gives."""
    repository = Repository(chosen)
    policies: dict[PolicyKey, tuple] = {}
    subjects: dict[int, tuple[str, ...]] = {}
    known_services, ports = {}, {}
    compiled = {}
    for step in steps:
        affected: set[int] = set()
        match step:
            case "policy", number, found:
                key = PolicyKey("Policy", "", str(number))
                policies[key] = tuple(found)
                affected = repository.set_policy(key, found)
            case "gone", number:
                key = PolicyKey("Policy", "", str(number))
                policies.pop(key, None)
                affected = repository.remove_policy(key)
            case "subject", number, labels:
                subjects[number] = labels
                affected = repository.set_subject(number, labels)
            case "left", number:
                subjects.pop(number, None)
                compiled.pop(number, None)
                repository.remove_subject(number)
            case "services", found:
                for service in found:
                    known_services[service.namespace, service.name] = service
                    affected |= repository.set_service(service)
            case "no service", namespace, name:
                known_services.pop((namespace, name), None)
                affected = repository.remove_service(namespace, name)
            case "ports", number, found:
                ports[number] = found
                affected = repository.set_ports(number, found)
        for number in affected:
            compiled[number] = repository.compile(number, OWN)
        fresh = Repository(chosen)
        for key, found in policies.items():
            fresh.set_policy(key, found)
        for service in known_services.values():
            fresh.set_service(service)
        for number, found in ports.items():
            fresh.set_ports(number, found)
        for number, labels in subjects.items():
            fresh.set_subject(number, labels)
            assert compiled[number] == fresh.compile(number, OWN)
            assert repository.policies_of(number) == fresh.policies_of(number)
            assert repository.policies_of(number) == {key for key in policies if number in repository.selected_by(key)}
