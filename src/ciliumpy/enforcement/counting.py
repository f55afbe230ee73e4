# SPDX-License-Identifier: Apache-2.0
"""Which place of the kernel's counts each rule of a set has: the same as long as the rule is the same. Pure.

Over a restart of the agent too: `remembered` names each place's rule. What is remembered may be older than the kernel's
sets, but must never name a rule whose place another has got since: it is to be written down anew before `renewed`.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import msgspec

from ciliumpy.enforcement.bits import FORMER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from ciliumpy.enforcement.encode import Classes
    from ciliumpy.policy.compiled import CompiledClass, CompiledLevel
    from ciliumpy.tables.enforcement import PolicySet, PortClass

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

    def __init__(
        self, size: int = 0, former: Collection[int] = (), remembered: Mapping[int, str] | None = None
    ) -> None:
        """`former`: places that sets of the agent before this one name. Other remembered ones count nothing."""
        self._size = size
        self._free: deque[int] = deque()
        self._stale = set(range(1, size)) - set(former)
        self._rule = {place: rule for place, rule in (remembered or {}).items() if place in former}
        self._of = {rule: place for place, rule in self._rule.items()}
        self._holders: dict[int, set[int]] = {place: {FORMER} for place in former}
        self._held: dict[int, tuple[int, ...]] = {FORMER: tuple(former)}

    @property
    def rules(self) -> Mapping[int, str]:
        """What is to be remembered: whose each place is."""
        return self._rule

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
            levels: self._counted(levels, one, (*base, tuple(sorted(ports.get(one.id, ())))))
            for levels, one in classes.items()
        }
        enforced = row.ingress_enforced, row.egress_enforced
        denied = tuple(self._place(_name(*base, way)) if closed else NOWHERE for way, closed in enumerate(enforced))
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
                if (rule := self._rule.pop(place, None)) is not None:
                    del self._of[rule]
                self._stale.add(place)

    def _counted(self, levels: CompiledClass, one: PortClass, base: tuple[object, ...]) -> PortClass:
        """Return the class with a place for each level; one that is in the kernel stays as it is."""
        if any(level.stat in self._holders for level in one.levels):
            return one
        places = [self._place(_name(*base, *_rule(each))) for each in levels]
        counted = [msgspec.structs.replace(each, stat=at) for each, at in zip(one.levels, places, strict=True)]
        return msgspec.structs.replace(one, levels=tuple(counted))

    def _place(self, rule: str) -> int:
        place = self._of.get(rule, NOWHERE)
        if not place and self._free:
            place = self._of[rule] = self._free.popleft()
            self._rule[place] = rule
            self._holders[place] = set()
        return place


def _rule(level: CompiledLevel) -> tuple[object, ...]:
    """What makes a level the same rule, whatever numbers its class and selectors have: verdict, peers and policies."""
    bounds = sorted({str(bound) for _, bound in level.origins if bound is not None})
    peers = sorted(str(selector) for selector in level.selectors)
    return level.verdict, level.everybody, level.tier, level.proxy, peers, bounds


def _name(*rule: object) -> str:
    """A rule, as short as it can be told from all others: thousands of them are written down."""
    return blake2b(msgspec.json.encode(rule), digest_size=16).hexdigest()


def _places(row: PolicySet) -> Iterator[int]:
    places = (level.stat for one in row.classes for level in one.levels)
    return (place for place in (*places, *row.denied_stat) if place)
