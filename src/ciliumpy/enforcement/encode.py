# SPDX-License-Identifier: Apache-2.0
"""A compiled policy as rows of bpf/c/layout.h: exact ports, ranges, classes of levels with selector masks. Pure."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.tables.enforcement import EVERYBODY_BIT, Level, PolicySet, PortClass, PortRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ciliumpy.model.selectors import Selector
    from ciliumpy.policy.compiled import CompiledClass, CompiledDirection, CompiledPolicy
    from ciliumpy.tables.source import NamedPort

CLASS_LEVELS = 16
RANGE_ENTRIES = 64
WIDEST_EXACT = 256  # a range this wide may become exact rows where there are too many ranges
NOBODY_CLASS = 0


Classes = dict["CompiledClass", PortClass]


class DoesNotFitError(Exception):
    """The policy needs more than the datapath's maps hold. The text continues a sentence."""


class TooNarrowError(DoesNotFitError):
    """It would fit if vectors were as wide as they can be."""


class Numbers:
    """Set and class numbers, each given once, counting on from what the kernel has."""

    def __init__(self, last_set: int = 0, last_class: int = 0) -> None:
        self._sets = count(last_set + 1)
        self._classes = count(last_class + 1)

    def next_set(self) -> int:
        return next(self._sets)

    def next_class(self) -> int:
        return next(self._classes)


def encode(
    compiled: CompiledPolicy,
    identity: int,
    bits: Mapping[Selector, int],
    numbers: Numbers,
    revision: int,
    size: int,
    named_ports: tuple[NamedPort, ...] | None = None,
    former: Classes | None = None,
) -> tuple[PolicySet, Classes]:
    """Encode a compiled policy; `bits` has every selector of it, masks are `size` bits. DoesNotFitError.

    Returns the set and its classes. Those that the `former` set for the same endpoints has too keep their numbers: the
    kernel has them already, and they go on counting.
    """
    classes: Classes = {}

    def class_of(levels: CompiledClass) -> int:
        if not levels:
            return NOBODY_CLASS
        found = classes.get(levels)
        if found is None:
            found = former.get(levels) if former else None
            found = classes[levels] = found or PortClass(numbers.next_class(), encode_levels(levels, bits, size))
        return found.id

    sides = [(side, compiled.direction(side)) for side in Direction]
    ingress, egress = (class_of(side.default) for _, side in sides)
    ports = tuple(row for direction, side in sides for row in _ports(direction, side, class_of))
    row = PolicySet(
        id=numbers.next_set(),
        identity=identity,
        ingress_enforced=compiled.ingress.enforced,
        egress_enforced=compiled.egress.enforced,
        default_class=(ingress, egress),
        ports=ports,
        classes=tuple(classes.values()),
        revision=revision,
        named_ports=named_ports,
    )
    return row, classes


def encode_levels(levels: CompiledClass, bits: Mapping[Selector, int], size: int) -> tuple[Level, ...]:
    """Encode a class. A pass names in `proxy_port` the level to go on with: the first of another tier."""
    if len(levels) > CLASS_LEVELS:
        raise DoesNotFitError(f"it needs {len(levels)} levels of precedence on one port, {CLASS_LEVELS} fit")
    encoded = []
    for place, level in enumerate(levels):
        rest = (at for at in range(place, len(levels)) if levels[at].tier != level.tier)
        target = next(rest, len(levels)) if level.verdict is Verdict.PASS else 0  # no proxy serves yet
        named = tuple(
            (EVERYBODY_BIT if selector is None else bits[selector], str(bound))
            for selector, bound in level.origins
            if bound is not None
        )
        mask = b"" if level.everybody else words((bits[selector] for selector in level.selectors), size)
        bounds = sorted({bound for _, bound in level.origins if bound is not None and (bound.log or bound.proxy)})
        remarks = tuple((str(bound), bound.log, bound.proxy) for bound in bounds)
        encoded.append(Level(level.verdict, level.everybody, target, mask, named, remarks=remarks))
    return tuple(encoded)


def words(bits: Iterable[int], size: int) -> bytes:
    """Bits as a little-endian mask of `size` bits."""
    mask = 0
    for bit in bits:
        mask |= 1 << bit
    return mask.to_bytes(size // 8, "little")


def _ports(
    direction: Direction, side: CompiledDirection, class_of: Callable[[CompiledClass], int]
) -> Iterable[PortRow]:
    for protocol in sorted({row.protocol for row in side.rows}):
        rows = [
            PortRow(direction, protocol, row.first, row.last, class_of(row.levels))
            for row in side.rows
            if row.protocol == protocol
        ]
        yield from fit_ranges(rows)


def fit_ranges(rows: Sequence[PortRow]) -> list[PortRow]:
    """Bring the disjoint, sorted rows of one protocol into RANGE_ENTRIES ranges.

    The exact rows are asked first, so a range may run over them: neighbours that only exact rows part become one. If
    that is not enough, the narrowest ranges become exact rows.
    """
    exact = [row for row in rows if row.first == row.last]
    ranges = _bridge([row for row in rows if row.first != row.last], {row.first for row in exact})
    narrow = sorted((row for row in ranges if row.last - row.first < WIDEST_EXACT), key=lambda r: r.last - r.first)
    while len(ranges) > RANGE_ENTRIES:
        if not narrow:
            raise DoesNotFitError(f"it needs {len(ranges)} port ranges of one protocol, {RANGE_ENTRIES} fit")
        row = narrow.pop(0)
        ranges.remove(row)
        known = {one.first for one in exact}
        exact += [
            PortRow(row.direction, row.protocol, port, port, row.class_id)
            for port in range(row.first, row.last + 1)
            if port not in known
        ]
    return sorted(exact + ranges, key=lambda row: (row.first, row.last))


def _bridge(ranges: Sequence[PortRow], exact: set[int]) -> list[PortRow]:
    joined: list[PortRow] = []
    for row in ranges:
        last = joined[-1] if joined else None
        gap = range(last.last + 1, row.first) if last else range(0)
        if last and last.class_id == row.class_id and len(gap) <= len(exact) and all(port in exact for port in gap):
            joined[-1] = PortRow(row.direction, row.protocol, last.first, row.last, row.class_id)
        else:
            joined.append(row)
    return joined
