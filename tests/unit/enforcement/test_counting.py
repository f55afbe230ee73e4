# SPDX-License-Identifier: Apache-2.0
"""Places to count in: a rule keeps its own over new sets, and nobody gets one that another rule may still add to."""

from __future__ import annotations

from ciliumpy.enforcement.counting import Counting
from ciliumpy.tables.enforcement import Level, PolicySet, PortClass, PortRow


def made(number: int, *rules: str, port: int = 80, stats: tuple[int, ...] = ()) -> PolicySet:
    given = stats or (0,) * len(rules)
    levels = tuple(Level(2, mask=b"\1", rules=((0, rule),), stat=stat) for rule, stat in zip(rules, given, strict=True))
    one = PortClass(number, levels)
    return PolicySet(number, 256, True, False, (0, 0), (PortRow(0, 6, port, port, number),), (one,), 1)


def assign(counting: Counting, row: PolicySet) -> tuple[tuple[int, ...], tuple[int, int]]:
    row, classes = counting.assign(row, dict(enumerate(row.classes)))
    assert tuple(classes.values()) == row.classes
    return tuple(level.stat for one in row.classes for level in one.levels), row.denied_stat


def ready(size: int) -> Counting:
    counting = Counting(size)
    counting.renewed(counting.wanting())
    return counting


def test_each_rule_has_a_place_and_each_closed_direction():
    assert assign(ready(9), made(1, "a", "b")) == ((1, 2), (3, 0))


def test_nothing_is_counted_before_the_places_are_renewed():
    assert assign(Counting(9), made(1, "a")) == ((0,), (0, 0))
    assert assign(Counting(), made(1, "a")) == ((0,), (0, 0))


def test_a_rule_keeps_its_place_in_the_next_set_and_another_port_is_another():
    counting = ready(9)
    first, denied = assign(counting, made(1, "a", "b"))
    assert assign(counting, made(2, "b", "c")) == ((first[1], 4), denied)
    assert assign(counting, made(3, "b", port=81)) == ((5,), denied)


def test_a_class_that_is_in_the_kernel_stays_as_it_is():
    counting = ready(9)
    first, _ = assign(counting, made(1, "a", "b"))
    assert assign(counting, made(2, "a", "b", stats=first, port=99))[0] == first


def test_a_place_goes_to_another_rule_only_when_its_last_set_has_gone_and_it_began_anew():
    counting = ready(4)
    assert assign(counting, made(1, "a", "b")) == ((1, 2), (3, 0))
    assert assign(counting, made(2, "b", "c")) == ((2, 0), (3, 0)), "all are in use: enforced, and counted nowhere"
    assert counting.wanting() == set()
    counting.let_go(1)
    assert counting.wanting() == {1}
    assert assign(counting, made(3, "c")) == ((0,), (3, 0)), "its old count is still there"
    counting.renewed({1})
    assert assign(counting, made(4, "c")) == ((1,), (3, 0))


def test_places_of_the_agent_before_are_nobodys_until_its_sets_have_gone():
    counting = Counting(4, former={2})
    assert counting.wanting() == {1, 3}
    counting.renewed({1, 3})
    counting.let_go(0)
    assert counting.wanting() == set() or 2 in counting.wanting()
    assert assign(counting, made(1, "a")) == ((1,), (3, 0))
    assert counting.wanting() == {2}
