# SPDX-License-Identifier: Apache-2.0
"""Carries prefixes into IPCACHE step by step: of nodes' pods, of what policies name, of the world.

A row is written when its identity has its vector in the kernel, and the next step begins when the rows of the last are
there. INSTALLED_PREFIXES says which prefixes policy sets may name by then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.nodes import derive
from ciliumpy.nodes.wide import Step, Wide, steps
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.enforcement import VECTORS
from ciliumpy.tables.identities import CIDR_PREFIXES, INSTALLED_PREFIXES, PREFIX_IDENTITIES, InstalledPrefix
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.source import NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ciliumpy.nodes.derive import Claim, Families
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job

RETRY = Backoff(first_s=0.1, most_s=10.0)
WAIT_S = 30.0  # for one row, or one vector
SLICE = 250  # rows written before others have their turn


class PrefixRows:
    """A job over NODES, CIDR_PREFIXES and PREFIX_IDENTITIES; the one writer of INSTALLED_PREFIXES.

    `place` puts claims into IPCACHE, or takes them out. The world is there from the start, as a former agent had it.
    """

    def __init__(
        self, db: Database, own: str, families: Families, place: Callable[[Mapping[str, Claim | None]], None]
    ) -> None:
        self._db = db
        self._own = own
        self._families = families
        self._place = place
        self._installed = db.table(INSTALLED_PREFIXES)
        self._nodes = db.table(NODES).observe("prefix rows")
        self._wanted = db.table(CIDR_PREFIXES).observe("prefix rows")
        self._identities = db.table(PREFIX_IDENTITIES).observe("prefix rows")
        self._placed: dict[str, Claim] = {}  # what the kernel has
        self._tried: set[str] = set()  # what it may have instead: a step was not finished
        self._asked: set[str] = set()  # prefixes of CIDR_PREFIXES that may have become installed
        world = tuple(derive.world_claims(families))
        self._wide = Wide(world)
        self._follow()
        place({claim.entry.prefix: self._wide.claim(claim.entry.prefix) for claim in world})

    @property
    def settled(self) -> bool:
        """Whether every prefix that is asked for is in the kernel, and no other."""
        if self._wide.dirty or any(each.pending for each in (self._nodes, self._wanted, self._identities)):
            return False
        return all(row.prefix in self._installed for row in self._db.table(CIDR_PREFIXES).all())

    async def run(self, job: Job, ready: asyncio.Event) -> None:
        """Begin when the store's rows are `ready`."""
        await ready.wait()
        failures = 0
        while True:
            try:
                await self.round()
                failures = 0
                job.ok(f"{len(self._placed)} prefixes")
            except CiliumpyError as error:
                failures += 1
                job.degraded(f"{len(self._wide.dirty)} prefixes are not as they shall be: {error.message}")
            timeout_s = RETRY.delay_s(failures) if failures else None
            await wait_any(self._nodes, self._wanted, self._identities, timeout_s=timeout_s)

    async def round(self) -> None:
        """Carry over what has changed. CiliumpyError: a step failed, and none after it was taken."""
        self._follow()
        writes: list[IPCacheEntry] = []
        removals: list[str] = []
        for prefix in list(self._wide.dirty):
            claim = self._wide.claim(prefix)
            if claim == self._placed.get(prefix) and prefix not in self._tried:
                self._wide.dirty.discard(prefix)
            elif claim is None:
                removals.append(prefix)
            else:
                writes.append(claim.entry)
        self._install(self._asked)
        self._asked.clear()
        for step in steps(writes, removals):
            await (self._write(step) if step.write else self._remove(step))

    def _follow(self) -> None:
        for node in self._nodes.take():
            claims = () if node.deleted else derive.pod_cidr_claims(node.row, self._own, self._families)
            self._wide.set_node(node.row.name, claims)
        for change in self._identities.take():
            self._asked.add(change.row.prefix)
            if change.deleted:
                self._wide.remove_identity(change.row.prefix)
            else:
                self._wide.set_identity(change.row.prefix, change.row.identity)
        self._asked |= {change.row.prefix for change in self._wanted.take()}

    async def _write(self, step: Step) -> None:
        await self._know({row.identity for row in step.write})
        claims = {row.prefix: claim for row in step.write if (claim := self._wide.claim(row.prefix))}
        self._tried |= claims.keys()
        for part in _slices(list(claims)):
            self._place({prefix: claims[prefix] for prefix in part})
            await asyncio.sleep(0)
        table = self._db.table(IPCACHE)
        for prefix, claim in claims.items():
            await table.wait_done(prefix, WAIT_S)
            self._placed[prefix] = claim
            self._tried.discard(prefix)
            self._wide.dirty.discard(prefix)
        self._install(claims)

    async def _remove(self, step: Step) -> None:
        """Take rows out. One that is asked for again since this round began stays: sets may name it already."""
        wanted = self._db.table(CIDR_PREFIXES)
        gone = [prefix for prefix in step.remove if prefix not in wanted or self._wide.is_pods(prefix)]
        for part in _slices(gone):
            self._place(dict.fromkeys(part))
            self._install(part)
            await asyncio.sleep(0)
        table = self._db.table(IPCACHE)
        for prefix in gone:
            await (table.wait_done(prefix, WAIT_S) if prefix in table else table.wait_gone(prefix, WAIT_S))
            self._placed.pop(prefix, None)
            self._tried.discard(prefix)
            self._wide.dirty.discard(prefix)
        for prefix in set(step.remove) - set(gone):
            self._wide.dirty.discard(prefix)  # its identity is on its way, and brings it back

    def _install(self, prefixes: Iterable[str]) -> None:
        """Say which of them policy sets may name."""
        wanted, identities = self._db.table(CIDR_PREFIXES), self._db.table(PREFIX_IDENTITIES)
        with self._db.write() as txn:
            for prefix in prefixes:
                row = identities.get(prefix)
                if prefix not in wanted:
                    txn.delete(INSTALLED_PREFIXES, prefix)
                elif row is None:
                    if not self._families.has(prefix):
                        txn.upsert(INSTALLED_PREFIXES, InstalledPrefix(prefix, 0))
                else:
                    placed = self._placed.get(prefix)
                    if self._wide.is_pods(prefix) or (placed is not None and placed.entry.identity == row.identity):
                        txn.upsert(INSTALLED_PREFIXES, InstalledPrefix(prefix, row.identity))

    async def _know(self, identities: set[int]) -> None:
        """Wait until the kernel has the vectors of these identities. CiliumpyError after a while."""
        table = self._db.table(VECTORS)
        observer = table.observe("prefix rows")
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_S
        try:
            for identity in sorted(identities):
                while identity not in table:
                    if loop.time() >= until:
                        raise CiliumpyError(f"identity {identity} has no selector vector after {WAIT_S:g} s")
                    observer.take()
                    await wait_any(observer, timeout_s=until - loop.time())
                await table.wait_done(identity, max(0.0, until - loop.time()))
        finally:
            observer.close()


def _slices(prefixes: list[str]) -> Iterable[list[str]]:
    return (prefixes[start : start + SLICE] for start in range(0, len(prefixes), SLICE))
