# SPDX-License-Identifier: Apache-2.0
"""Carries ipcache rows into the kernel: addresses into a hash, prefixes into a trie, one bump a batch.

Only flows with the peers that a batch is about are judged again, by their buckets of epochs; except where a node's
address changes, which is also the outer address of everybody behind it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ciliumpy.datapath import encode
from ciliumpy.datapath.kernel import KernelMap, KernelMaps, dump, run_sized, write_all
from ciliumpy.model.cidr import PrefixSet
from ciliumpy.model.selectors import network
from ciliumpy.state.observer import wait_any

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.model.cidr import Network
    from ciliumpy.state.table import Table
    from ciliumpy.tables.enforcement import SelectorVector
    from ciliumpy.tables.ipcache import IPCacheEntry

VECTOR_WAIT_S = 1.0
TUNNEL, NODE = 1, 4  # IPCACHE_TUNNEL and IPCACHE_NODE of bpf/c/layout.h
NOBODY = 0xFFFFFF  # an identity that never has a vector: it meets every deny, and no selector


class Written(NamedTuple):
    """What the kernel has of a prefix: where, and whether it is a node's address."""

    map: KernelMap
    node: bool


class IPCacheTarget:
    """`cp_iphost_v1` and `cp_ipcidr_v1`.

    A row whose identity has no vector yet waits for it: with an unknown identity the address would meet every deny.
    Where the kernel refuses the vector the row is written all the same: without it the address would be the world's.
    While an address does not fit, the pod CIDR around it is nobody, not the world, which policies may allow.
    """

    def __init__(self, maps: KernelMaps, epochs: Epochs, vectors: Table[SelectorVector]) -> None:
        self._hosts = maps["cp_iphost_v1"]
        self._prefixes = maps["cp_ipcidr_v1"]
        self._epochs = epochs
        self._vectors = vectors
        self._written: dict[str, Written] = {}
        self._pod_cidrs: dict[Network, IPCacheEntry] = {}  # of other nodes
        self._around = PrefixSet()  # the same, asked by address
        self._left_out: set[str] = set()  # addresses that do not fit
        self._closed: set[Network] = set()  # pod CIDRs with such an address

    def entries(self) -> dict[str, int]:
        counts = Counter(written.map.name for written in self._written.values())
        return {map_.name: counts[map_.name] for map_ in (self._hosts, self._prefixes)}

    async def update(self, rows: Sequence[IPCacheEntry]) -> Mapping[Hashable, str]:
        ready = [row for row in rows if self._is_known(row.identity)]
        waiting = [row for row in rows if not self._is_known(row.identity)]
        errors = dict(await run_sized(len(ready), self._write, ready))
        if waiting:
            await self._wait_for(waiting)
            late = [row for row in waiting if self._is_known(row.identity)]
            errors |= await run_sized(len(late), self._write, late)
            errors |= {
                row.prefix: f"identity {row.identity} is not known yet"
                for row in waiting
                if not self._is_known(row.identity)
            }
        return errors

    async def delete(self, rows: Sequence[IPCacheEntry]) -> Mapping[Hashable, str]:
        await run_sized(len(rows), self._delete, rows)
        return {}

    async def prune(self, rows: Sequence[IPCacheEntry]) -> int:
        known = [row for row in rows if self._is_known(row.identity)]
        return await run_sized(len(rows) + len(known), self._repair, known, {row.prefix for row in rows})

    def _is_known(self, identity: int) -> bool:
        return identity in self._vectors and self._vectors.status(identity).state in {"done", "error"}

    async def _wait_for(self, rows: Sequence[IPCacheEntry]) -> None:
        """Wait until every identity has its vector in the kernel, for a while."""
        clock = asyncio.get_running_loop().time
        until = clock() + VECTOR_WAIT_S
        observer = self._vectors.observe("ipcache")
        try:
            for identity in {row.identity for row in rows}:
                while identity not in self._vectors:
                    left = until - clock()
                    if left <= 0:
                        return
                    observer.take()
                    await wait_any(observer, timeout_s=left)
                try:
                    await self._vectors.wait_done(identity, max(0.0, until - clock()))
                except Exception:  # noqa: BLE001, S112 - said on the row below, by its identity
                    continue
        finally:
            observer.close()

    def _place(self, prefix: str) -> tuple[KernelMap, bytes]:
        addr, length = encode.split_prefix(prefix)
        if length == 128:
            return self._hosts, addr
        return self._prefixes, encode.ipcache_prefix(self._prefixes, addr, length)

    def _values(self, map_: KernelMap, rows: Sequence[IPCacheEntry]) -> dict[bytes, bytes]:
        """Return key and value of the rows that belong into this map."""
        placed = ((row, *self._place(row.prefix)) for row in rows)
        return {key: encode.ipcache_value(map_, self._as_it_is(row)) for row, place, key in placed if place is map_}

    def _as_it_is(self, row: IPCacheEntry) -> IPCacheEntry:
        if self._closed and network(row.prefix) in self._closed:
            return msgspec.structs.replace(row, identity=NOBODY)
        return row

    def _write(self, rows: Sequence[IPCacheEntry]) -> dict[Hashable, str]:
        errors: dict[Hashable, str] = {}
        self._know_pod_cidrs(rows)
        for map_ in (self._hosts, self._prefixes):
            refused = write_all(map_, self._values(map_, rows))
            if refused:
                errors |= {row.prefix: refused[key] for row in rows if (key := self._place(row.prefix)[1]) in refused}
            if map_ is self._hosts:
                self._left_out -= {row.prefix for row in rows}
                self._left_out |= {str(prefix) for prefix in errors}
                rows = [*rows, *self._close_around(rows)]
        former = [old for row in rows if (old := self._written.get(row.prefix))]
        self._written |= {
            row.prefix: Written(self._place(row.prefix)[0], bool(row.flags & NODE))
            for row in rows
            if row.prefix not in errors
        }
        self._bump(rows, former)
        return errors

    def _delete(self, rows: Sequence[IPCacheEntry]) -> None:
        former = []
        for row in rows:
            map_, key = self._place(row.prefix)
            map_.delete(key)
            if old := self._written.pop(row.prefix, None):
                former.append(old)
            self._left_out.discard(row.prefix)
            if self._pod_cidrs.pop(network(row.prefix), None):
                self._around.discard(network(row.prefix))
        others = self._close_around(rows)
        write_all(self._prefixes, self._values(self._prefixes, others))
        self._bump([*rows, *others], former)

    def _know_pod_cidrs(self, rows: Sequence[IPCacheEntry]) -> None:
        for row in rows:
            if row.flags & TUNNEL and self._place(row.prefix)[0] is self._prefixes:
                self._pod_cidrs[network(row.prefix)] = row
                self._around.add(network(row.prefix))

    def _close_around(self, rows: Sequence[IPCacheEntry]) -> list[IPCacheEntry]:
        """See which pod CIDRs have addresses that do not fit; return those of which that is news, but `rows`."""
        closed = {each for prefix in self._left_out for each in self._around.containing(prefix)}
        news, self._closed = closed ^ self._closed, closed
        at_hand = {row.prefix for row in rows}
        found = [self._pod_cidrs[each] for each in news if each in self._pod_cidrs]
        return [row for row in found if row.prefix not in at_hand]

    def _bump(self, rows: Sequence[IPCacheEntry], former: Sequence[Written]) -> None:
        """After the last write. `former`: what the kernel had of the rows before."""
        if any(row.flags & NODE for row in rows) or any(old.node for old in former):
            self._epochs.bump_global()
        else:
            self._epochs.bump_peers(row.prefix for row in rows)

    def _repair(self, known: Sequence[IPCacheEntry], keep: set[str]) -> int:
        """Remove what nobody asked for, write what differs. A row that waits for its identity is left as it is.

        Rows that go leave their addresses to shorter prefixes: those go first, so that nobody meets one that goes, too.
        """
        repairs = 0
        places = {self._place(prefix) for prefix in keep}
        extra: list[tuple[KernelMap, bytes]] = []
        for map_ in (self._hosts, self._prefixes):
            present = dump(map_)
            wanted = self._values(map_, known)
            wrong = {key: value for key, value in wanted.items() if present.get(key) != value}
            write_all(map_, wrong)
            extra += [(map_, key) for key in present if (map_, key) not in places]
            repairs += len(wrong)
        for map_, key in sorted(extra, key=lambda each: (each[0] is self._hosts, each[1][:4][::-1])):
            map_.delete(key)
        repairs += len(extra)
        if repairs:
            self._epochs.bump_global()
        return repairs
