# SPDX-License-Identifier: Apache-2.0
"""Which place of the kernel's counts each rule of a set has: the same as long as the rule is the same. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from ciliumpy.enforcement.bits import FORMER

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator

    from ciliumpy.enforcement.encode import Classes
    from ciliumpy.tables.enforcement import Level, PolicySet, PortClass

NOWHERE = 0


class KernelCounts(Protocol):
    """Where the kernel counts: places 1 to `size` - 1."""

    @property
    def size(self) -> int: ...

    def used(self) -> set[int]:
        """Return the places that sets in the kernel name."""
        ...

    def begin_anew(self, places: Collection[int]) -> None:
        """From now on these places' counts are of other rules. For a thread."""
        ...


class Counting:
    """Gives places out. One that no set names any more is stale, and given to another rule only when it is renewed.

    What cannot be counted, because all places are in use, is counted nowhere: it is enforced all the same.
    """

    def __init__(self, size: int = 0, former: Collection[int] = ()) -> None:
        self._size = size
        self._free: deque[int] = deque()
        self._stale = set(range(1, size)) - set(former)
        self._of: dict[Hashable, int] = {}  # rule -> place
        self._rule: dict[int, Hashable] = {}
        self._holders: dict[int, set[int]] = {place: {FORMER} for place in former}
        self._held: dict[int, tuple[int, ...]] = {FORMER: tuple(former)}

    def wanting(self) -> set[int]:
        """Return the stale places, if few are free and it is worth it: they are to begin anew, then `renewed`."""
        few = max(1, self._size // 8)
        worth = len(self._free) < few and (len(self._stale) >= few or not self._free)
        return set(self._stale) if worth else set()

    def renewed(self, places: Collection[int]) -> None:
        """Their counts begin anew."""
        self._stale.difference_update(places)
        self._free.extend(sorted(places))

    def assign(self, row: PolicySet, classes: Classes) -> tuple[PolicySet, Classes]:
        """Return the set and its classes with the places of their levels, and hold them."""
        ports: dict[int, list[tuple[int, ...]]] = {}
        for direction, number in enumerate(row.default_class):
            ports.setdefault(number, []).append((direction,))
        for port in row.ports:
            ports.setdefault(port.class_id, []).append((port.direction, port.protocol, port.first, port.last))
        base = row.identity, row.named_ports
        known = {
            levels: self._counted(one, (*base, tuple(sorted(ports.get(one.id, ()))))) for levels, one in classes.items()
        }
        enforced = row.ingress_enforced, row.egress_enforced
        denied = tuple(self._place((*base, way)) if closed else NOWHERE for way, closed in enumerate(enforced))
        row = msgspec.structs.replace(row, classes=tuple(known.values()), denied_stat=denied)
        self._held[row.id] = held = tuple({*_places(row)})
        for place in held:
            self._holders[place].add(row.id)
        return row, known

    def let_go(self, set_id: int) -> None:
        """The kernel has that set no longer."""
        for place in self._held.pop(set_id, ()):
            self._holders[place].discard(set_id)
            if not self._holders[place]:
                del self._holders[place]
                self._of.pop(self._rule.pop(place, None), None)
                self._stale.add(place)

    def _counted(self, one: PortClass, base: tuple[Hashable, ...]) -> PortClass:
        """Return the class with a place for each level; one that is in the kernel stays as it is."""
        if any(level.stat in self._holders for level in one.levels):
            return one
        levels = tuple(msgspec.structs.replace(each, stat=self._place((*base, _rule(each)))) for each in one.levels)
        return msgspec.structs.replace(one, levels=levels)

    def _place(self, rule: Hashable) -> int:
        place = self._of.get(rule, NOWHERE)
        if not place and self._free:
            place = self._of[rule] = self._free.popleft()
            self._rule[place] = rule
            self._holders[place] = set()
        return place


def _rule(level: Level) -> Hashable:
    """What makes a level the same rule, whatever number its class and its selectors have."""
    return level.verdict, level.everybody, tuple(sorted({text for _, text in level.rules}))


def _places(row: PolicySet) -> Iterator[int]:
    places = (level.stat for one in row.classes for level in one.levels)
    return (place for place in (*places, *row.denied_stat) if place)
