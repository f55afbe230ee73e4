# SPDX-License-Identifier: Apache-2.0
"""Carries prefixes into IPCACHE step by step: of nodes' pods, of what policies name, of the world.

A row is written when its identity has its vector in the kernel, and the next step begins when the rows of the last are
there. INSTALLED_PREFIXES says which prefixes policy sets may name by then. A row that the kernel refuses stops only
what must not come before it (missing.py): policies that name it wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.nodes import derive
from ciliumpy.nodes.missing import Missing
from ciliumpy.nodes.wide import Step, Wide, steps
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.enforcement import VECTORS
from ciliumpy.tables.identities import (
    CIDR_PREFIXES,
    IDENTITIES,
    INSTALLED_PREFIXES,
    PREFIX_IDENTITIES,
    InstalledPrefix,
)
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.source import NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ciliumpy.nodes.derive import Claim, Families
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job

RETRY = Backoff(first_s=0.1, most_s=10.0)
WAIT_S = 30.0  # for the rows of a step, or their vectors
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
        self._refused: set[str] = set()  # what the kernel did not take in the last round
        world = tuple(derive.world_claims(families))
        self._wide = Wide(world)
        self._follow()
        place({claim.entry.prefix: self._wide.claim(claim.entry.prefix) for claim in world})

    @property
    def settled(self) -> bool:
        """Whether every prefix that is asked for is in the kernel, or was refused by it, and no other is."""
        table = self._db.table(IPCACHE)
        refused = {p for p in self._refused if p in table and table.status(p).state == "error"}
        if self._wide.dirty - refused or any(each.pending for each in (self._nodes, self._wanted, self._identities)):
            return False
        return all(
            row.prefix in self._installed or row.prefix in refused for row in self._db.table(CIDR_PREFIXES).all()
        )

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
        """Carry over what has changed. CiliumpyError: the kernel did not take it all."""
        self._follow()
        missing = Missing()
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
            await (self._write(step, missing) if step.write else self._remove(step, missing))
        self._refused = missing.refused
        if missing.error:
            raise CiliumpyError(missing.error)

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

    async def _write(self, step: Step, missing: Missing) -> None:
        late = await self._know({row.identity for row in step.write})
        claims: dict[str, Claim] = {}
        for row in step.write:
            if row.identity in late:
                self._miss(row, missing, late[row.identity])
            elif (claim := self._wide.claim(row.prefix)) and missing.lets(row.prefix, self._labels(claim.entry)):
                claims[row.prefix] = claim
        self._tried |= claims.keys()
        for part in _slices(list(claims)):
            self._place({prefix: claims[prefix] for prefix in part})
            await asyncio.sleep(0)
        table, clock = self._db.table(IPCACHE), asyncio.get_running_loop().time
        until, there = clock() + WAIT_S, []
        for prefix, claim in claims.items():
            try:
                await table.wait_done(prefix, max(0.0, until - clock()))
            except CiliumpyError as error:
                missing.refused.add(prefix)
                self._miss(claim.entry, missing, error.message)
                continue
            there.append(prefix)
            self._placed[prefix] = claim
            self._tried.discard(prefix)
            self._wide.dirty.discard(prefix)
        self._install(there)

    def _miss(self, row: IPCacheEntry, missing: Missing, error: str) -> None:
        missing.add(row.prefix, () if row.prefix in self._placed else self._labels(row), error)

    def _labels(self, row: IPCacheEntry) -> tuple[str, ...]:
        identity = self._db.table(IDENTITIES).get(row.identity)
        return identity.labels if identity else ()

    async def _remove(self, step: Step, missing: Missing) -> None:
        """Take rows out. One that is asked for again since this round began stays: sets may name it already."""
        wanted = self._db.table(CIDR_PREFIXES)
        going = [prefix for prefix in step.remove if missing.lets(prefix, ())]
        gone = [prefix for prefix in going if prefix not in wanted or self._wide.is_pods(prefix)]
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
        for prefix in set(going) - set(gone):
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

    async def _know(self, identities: set[int]) -> dict[int, str]:
        """Wait for a while until the kernel has the vectors of these identities; those that it has not, and why."""
        table = self._db.table(VECTORS)
        observer = table.observe("prefix rows")
        clock = asyncio.get_running_loop().time
        until, late = clock() + WAIT_S, {}
        try:
            for identity in sorted(identities):
                while identity not in table and clock() < until:
                    observer.take()
                    await wait_any(observer, timeout_s=until - clock())
                if identity not in table:
                    late[identity] = f"identity {identity} has no selector vector after {WAIT_S:g} s"
                    continue
                try:
                    await table.wait_done(identity, max(0.0, until - clock()))
                except CiliumpyError as error:
                    late[identity] = error.message
        finally:
            observer.close()
        return late


def _slices(prefixes: list[str]) -> Iterable[list[str]]:
    return (prefixes[start : start + SLICE] for start in range(0, len(prefixes), SLICE))
