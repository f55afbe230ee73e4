# SPDX-License-Identifier: Apache-2.0
"""Places to count in: a rule keeps its own over new sets, and nobody gets one that another rule may still add to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ciliumpy.enforcement.counting import Counting
from ciliumpy.enforcement.memory import CountFile
from ciliumpy.enforcement.places import SAVE_NS, Places
from ciliumpy.model.selectors import Selector, all_of, equals
from ciliumpy.model.verdicts import Verdict
from ciliumpy.policy.compiled import Bound, CompiledLevel
from ciliumpy.tables.enforcement import Level, PolicySet, PortClass, PortRow

APP = all_of(equals("k8s", "app", "a"))


def made(number: int, *rules: str, port: int = 80, stats: tuple[int, ...] = ()) -> PolicySet:
    given = stats or (0,) * len(rules)
    levels = tuple(Level(2, mask=b"\1", rules=((0, rule),), stat=stat) for rule, stat in zip(rules, given, strict=True))
    one = PortClass(number, levels)
    return PolicySet(number, 256, True, False, (0, 0), (PortRow(0, 6, port, port, number),), (one,), 1)


def compiled(level: Level, peer: Selector) -> CompiledLevel:
    bounds = tuple((peer, Bound("CiliumNetworkPolicy", "shop", rule, "spec")) for _, rule in level.rules)
    return CompiledLevel(Verdict(level.verdict), 1, False, (peer,), bounds)


def assign(counting: Counting, row: PolicySet, peer: Selector = APP) -> tuple[tuple[int, ...], tuple[int, int]]:
    known = {tuple(compiled(level, peer) for level in one.levels): one for one in row.classes}
    row, classes = counting.assign(row, known)
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


def test_a_rule_that_is_for_others_now_is_another():
    counting = ready(9)
    first, denied = assign(counting, made(1, "a"))
    assert assign(counting, made(2, "a"), all_of(equals("k8s", "app", "b"))) == ((3,), denied)
    assert assign(counting, made(3, "a")) == (first, denied)


def test_what_is_remembered_goes_on_where_it_was():
    before = ready(9)
    assert assign(before, made(1, "a", "b")) == ((1, 2), (3, 0))
    after = Counting(9, former={1, 2, 3}, remembered=before.rules)
    after.renewed(after.wanting())
    assert assign(after, made(7, "b", "c")) == ((2, 4), (3, 0))
    after.let_go(0)
    assert set(after.rules) == {2, 3, 4}, "and what no set has any more is nobody's"


def test_what_is_remembered_of_a_place_that_no_set_in_the_kernel_names_is_not_believed():
    before = ready(9)
    assign(before, made(1, "a"))
    after = Counting(9, former={2}, remembered=before.rules)
    assert set(after.rules) == {2}
    assert 1 in after.wanting()


class Kernel:
    """Counts of 8 places. It says what the disk says at the moment when a place begins anew."""

    size = 9

    def __init__(self, used: set[int], file: CountFile) -> None:
        self._used, self._file = used, file
        self.begun: list[tuple[set[int], dict[int, str]]] = []

    def used(self) -> set[int]:
        return self._used

    def begin_anew(self, places: object) -> None:
        self.begun.append((set(places), self._file.load()))  # type: ignore[call-overload]


def test_the_disk_has_forgotten_whose_a_place_was_before_another_gets_it(tmp_path: Path):
    file = CountFile(tmp_path / "counts.json")
    first = Places(Kernel(set(), file), file)
    asyncio.run(first.renew())
    assert assign(first, made(1, "a", "b")) == ((1, 2), (3, 0))
    assert first.unsaved
    asyncio.run(first.remember(1))
    assert not first.unsaved
    assert set(file.load()) == {1, 2, 3}

    kernel = Kernel({2, 3}, file)
    second = Places(kernel, file)
    asyncio.run(second.renew())
    ((places, on_disk),) = kernel.begun
    assert places == {1, 4, 5, 6, 7, 8}
    assert set(on_disk) == {2, 3}, "an agent that begins after a crash must not take a place for its former rule's"
    assert assign(second, made(2, "b", "c")) == ((2, 1), (3, 0))


def test_rules_are_written_down_once_a_second_at_most(tmp_path: Path):
    file = CountFile(tmp_path / "counts.json")
    places = Places(Kernel(set(), file), file)
    asyncio.run(places.renew())
    for number, (now, kept) in enumerate([(1, 2), (SAVE_NS, 2), (SAVE_NS + 1, 4)]):
        assign(places, made(number + 1, f"rule {number}"))
        asyncio.run(places.remember(now))
        assert len(file.load()) == kept


def test_nothing_is_counted_anew_where_it_cannot_be_written_down(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = CountFile(tmp_path / "missing" / "counts.json")
    kernel = Kernel(set(), file)
    places = Places(kernel, file)
    for _ in range(2):
        asyncio.run(places.renew())
    assert kernel.begun == []
    assert assign(places, made(1, "a")) == ((0,), (0, 0))
    assert caplog.text.count("cannot be written down") == 1


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"1": "x", "2": "x"}', b'{"one": "x"}'])
def test_a_damaged_file_is_nothing(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "counts.json"
    path.write_bytes(damage)
    assert CountFile(path).load() == {}
    assert "counted from nothing" in caplog.text
