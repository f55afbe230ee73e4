# SPDX-License-Identifier: Apache-2.0
"""What a policy is compiled into: per direction, disjoint port ranges, each with a class of levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ciliumpy.model.rule import NO_PROXY
from ciliumpy.model.selectors import Selector
from ciliumpy.model.verdicts import Direction, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bound(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """Names a rule: the policy's kind, namespace (may be empty) and name, and the rule's path in it.

    Also what flows say that it decides: its log value, and what it wants a proxy to look at.
    """

    kind: str
    namespace: str
    name: str
    path: str
    log: str = ""
    proxy: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part) + f"#{self.path}"


class CompiledLevel(msgspec.Struct, frozen=True, cache_hash=True):
    """One step of a class. It decides for whom it meets: everybody, or whoever meets one of the selectors."""

    verdict: Verdict
    tier: int
    everybody: bool
    selectors: tuple[Selector, ...]  # empty if everybody
    origins: tuple[tuple[Selector | None, Bound | None], ...]  # None: everybody; no rule, but what stands anyway
    proxy: tuple[int, str] = NO_PROXY  # of a redirect: Proxy.order


CompiledClass = tuple[CompiledLevel, ...]  # the first level that meets the peer decides; none: denied
NOBODY: CompiledClass = ()


class PortClassRow(msgspec.Struct, frozen=True):
    """Ports of one protocol that share a class. Rows of a direction are disjoint and sorted."""

    protocol: int
    first: int
    last: int
    levels: CompiledClass


class CompiledDirection(msgspec.Struct, frozen=True):
    """A direction that is not enforced allows everything and has neither rows nor a default."""

    enforced: bool
    default: CompiledClass = NOBODY  # protocols and ports without a row
    rows: tuple[PortClassRow, ...] = ()

    def classes(self) -> Iterator[CompiledClass]:
        yield self.default
        for row in self.rows:
            yield row.levels


class CompiledPolicy(msgspec.Struct, frozen=True):
    """Of all endpoints of one identity."""

    ingress: CompiledDirection
    egress: CompiledDirection

    def direction(self, direction: Direction) -> CompiledDirection:
        return self.ingress if direction is Direction.INGRESS else self.egress

    def selectors(self) -> tuple[Selector, ...]:
        """Every selector that a level names, once, in the order of classes and levels."""
        classes = dict.fromkeys(levels for side in (self.ingress, self.egress) for levels in side.classes())
        return tuple(dict.fromkeys(s for levels in classes for level in levels for s in level.selectors))
