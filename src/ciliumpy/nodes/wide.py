# SPDX-License-Identifier: Apache-2.0
"""In which steps the rows of prefixes change, so that no address is ever judged as neither before nor after. Pure.

An address has the identity of the longest prefix that contains it. Rows are written from the longest prefix to the
shortest, each length when the longer ones are in the kernel, and only then those that are wanted no more are removed,
from the shortest to the longest. At every moment in between an address meets the row that it met before, or the one
that it meets after: written rows are those it meets at the end, and of rows that go, it leaves only the longest, last.
"""

from __future__ import annotations

import ipaddress
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.cidr import PrefixSet
from ciliumpy.model.selectors import network
from ciliumpy.nodes.derive import Claim, Trust
from ciliumpy.tables.ipcache import IPCacheEntry

if TYPE_CHECKING:
    from collections.abc import Iterable


class Step(NamedTuple):
    """Rows to write, or prefixes to remove, before the next step begins."""

    write: tuple[IPCacheEntry, ...] = ()
    remove: tuple[str, ...] = ()


def steps(rows: Iterable[IPCacheEntry], gone: Iterable[str]) -> list[Step]:
    """Return the steps in which these rows are written and those prefixes removed."""
    writes = sorted(rows, key=lambda row: (-length(row.prefix), row.prefix))
    removals = sorted(gone, key=lambda prefix: (length(prefix), prefix))
    return [
        *(Step(write=tuple(each)) for _, each in groupby(writes, lambda row: length(row.prefix))),
        *(Step(remove=tuple(each)) for _, each in groupby(removals, length)),
    ]


def length(prefix: str) -> int:
    """Return how many bits of 128 a prefix fixes; one family's order has nothing to do with the other's."""
    bits = int(prefix.rpartition("/")[2])
    return bits if ":" in prefix else 96 + bits


class Wide:
    """Which row every prefix wants: a pod CIDR's, its own identity's, or the world's.

    A pod CIDR, and what is in it, belongs to its node whatever policies name: there are pods, or nobody.
    """

    def __init__(self, world: Iterable[Claim]) -> None:
        self._world = {claim.entry.prefix: claim for claim in world}
        self._identities: dict[str, int] = {}
        self._by_node: dict[str, tuple[Claim, ...]] = {}
        self._pod_cidrs: dict[str, dict[str, Claim]] = {}
        self._pods = PrefixSet()
        self.dirty: set[str] = set(self._world)

    def set_identity(self, prefix: str, identity: int) -> None:
        if self._identities.get(prefix) != identity:
            self._identities[prefix] = identity
            self.dirty.add(prefix)

    def remove_identity(self, prefix: str) -> None:
        if self._identities.pop(prefix, None) is not None:
            self.dirty.add(prefix)

    def set_node(self, node: str, claims: Iterable[Claim]) -> None:
        """Set the pod CIDRs of a node; none to forget it."""
        new, old = tuple(claims), self._by_node.pop(node, ())
        if new:
            self._by_node[node] = new
        if new == old:
            return
        for claim in old:
            prefix = claim.entry.prefix
            self._pod_cidrs[prefix].pop(node)
            if not self._pod_cidrs[prefix]:
                del self._pod_cidrs[prefix]
                self._pods.discard(network(prefix))
        for claim in new:
            self._pod_cidrs.setdefault(claim.entry.prefix, {})[node] = claim
            self._pods.add(network(claim.entry.prefix))
        changed = {claim.entry.prefix for claim in (*old, *new)}
        self.dirty |= changed
        within = [ipaddress.ip_network(prefix) for prefix in changed]
        self.dirty |= {prefix for prefix in self._identities if _is_in(prefix, within)}

    def claim(self, prefix: str) -> Claim | None:
        """Return what is wanted of a prefix now."""
        owners = self._pod_cidrs.get(prefix)
        if owners:
            return owners[min(owners)]
        identity = self._identities.get(prefix)
        if identity is None or self.is_pods(prefix):
            return self._world.get(prefix)
        return Claim(Trust.CIDR, IPCacheEntry(prefix, identity, source="cidr"))

    def is_pods(self, prefix: str) -> bool:
        """Tell whether a prefix is a pod CIDR, or in one."""
        return any(self._pods.containing(prefix))


def _is_in(prefix: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    inner = ipaddress.ip_network(prefix)
    return any(inner.version == outer.version and inner.subnet_of(outer) for outer in networks)  # type: ignore[arg-type]
