# SPDX-License-Identifier: Apache-2.0
"""Gives every prefix that is named on this node an identity of its labels: scope 1, which never leaves the node.

Numbers are kept over a restart: until the start has ended, all prefixes are as the former agent had them. An identity
stays for a minute after its last prefix, and until the kernel has no row with it: flows that carry its number have
labels.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ciliumpy.identity.holdings import Holdings
from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.cidr import Groups, canonical, prefix_labels
from ciliumpy.model.identity import SCOPE_LOCAL
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.identities import (
    CIDR_PREFIXES,
    IDENTITIES,
    INSTALLED_PREFIXES,
    PREFIX_IDENTITIES,
    Identity,
    PrefixIdentity,
)
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import CIDR_GROUPS

if TYPE_CHECKING:
    from ciliumpy.identity.memory import Memory
    from ciliumpy.identity.numbers import Labels
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job

RETRY = Backoff(first_s=0.1, most_s=10.0)
LINGER_S = 60.0
SLICE = 250  # prefixes labelled before others have their turn: some 5 ms
NS = 1_000_000_000

_log = logging.getLogger(__name__)


class LocalIdentities:
    """A job over CIDR_PREFIXES and CIDR_GROUPS; the one writer of PREFIX_IDENTITIES.

    `highest`: the highest number of the scope that the kernel has; if the memory is lost, it goes on after that.
    """

    def __init__(
        self, db: Database, *, memory: Memory | None = None, highest: int = 0, ipv4: bool = True, ipv6: bool = True
    ) -> None:
        self._db = db
        self._ipv4, self._ipv6 = ipv4, ipv6
        self._holdings = Holdings(SCOPE_LOCAL, memory, highest)
        self._groups = Groups()
        self._group_rows = db.table(CIDR_GROUPS).observe("local identities")
        self._wanted = db.table(CIDR_PREFIXES).observe("local identities")
        self._stale: set[str] = set()  # prefixes whose labels are to be looked at
        self._starting = True
        with db.write() as txn:
            for number, labels in self._holdings.labels.items():
                txn.upsert(IDENTITIES, Identity(number, labels))
            for prefix, number in self._holdings.owners.items():
                txn.upsert(PREFIX_IDENTITIES, PrefixIdentity(prefix, number))

    async def run(self, job: Job, ready: asyncio.Event) -> None:
        """Begin when the groups are `ready`."""
        await ready.wait()
        failures = 0
        while True:
            try:
                await self.round()
                failures = 0
                job.ok(f"{len(self._holdings)} identities of {len(self._holdings.owners)} prefixes")
            except CiliumpyError as error:
                failures += 1
                job.degraded(f"{len(self._stale)} prefixes have no identity: {error.message}")
            timeout_s = RETRY.delay_s(failures) if failures else LINGER_S / 4 if self._holdings.idle else None
            await wait_any(self._group_rows, self._wanted, timeout_s=timeout_s)

    async def end_start(self, settled: asyncio.Event) -> None:
        """Wait until policies are compiled and in force; then what only the former agent named goes."""
        await settled.wait()
        self._starting = False
        self._stale |= self._holdings.owners.keys()
        self._wanted.poke()

    async def round(self) -> None:
        """Carry over what has changed. CiliumpyError: new prefixes have no identity yet."""
        for change in self._group_rows.take():
            if change.deleted:
                self._groups.remove(change.row.name)
            else:
                # All its prefixes at once, asked for or not: one that loses its labels leaves no part without them.
                self._groups.set(change.row.name, dict(change.row.labels), change.row.prefixes)
                self._stale.update(change.row.prefixes)
            self._stale |= self._holdings.owners.keys()
        self._stale |= {change.row.prefix for change in self._wanted.take()}
        stale, self._stale = sorted(self._stale), set()
        labels: dict[str, Labels | None] = {}
        for start in range(0, len(stale), SLICE):
            labels |= {prefix: self._labels_of(prefix) for prefix in stale[start : start + SLICE]}
            await asyncio.sleep(0)
        try:
            self._holdings.change(labels, self._db.clock.monotonic_ns())
        except CiliumpyError:
            self._stale.update(stale)
            raise
        self._write(labels)
        self._collect()

    def _labels_of(self, prefix: str) -> Labels | None:
        """Return the labels of a prefix; none if nobody names it, or no address can be in it."""
        if not (self._ipv6 if ":" in prefix else self._ipv4):
            return None
        if prefix != canonical(prefix):
            _log.error("prefix %s has bits beyond its length: it gets no identity, what names it no effect", prefix)
            return None
        kept = self._starting and prefix in self._holdings.owners
        if not kept and prefix not in self._db.table(CIDR_PREFIXES) and prefix not in self._groups:
            return None
        return prefix_labels(prefix, self._groups, ipv4=self._ipv4, ipv6=self._ipv6)

    def _write(self, prefixes: dict[str, Labels | None]) -> None:
        with self._db.write() as txn:
            for prefix, labels in prefixes.items():
                if labels is None:
                    txn.delete(PREFIX_IDENTITIES, prefix)
                else:
                    number = self._holdings.owners[prefix]
                    txn.upsert(IDENTITIES, Identity(number, labels))
                    txn.upsert(PREFIX_IDENTITIES, PrefixIdentity(prefix, number))

    def _collect(self) -> None:
        """Give up identities that no prefix has had for a while and the kernel has no row of."""
        old = self._holdings.idle_before(self._db.clock.monotonic_ns() - int(LINGER_S * NS))
        if not old or self._starting or not self._carried():
            return
        ipcache = self._db.table(IPCACHE)
        gone = [number for number in old if not ipcache.by("identity", number)]
        self._holdings.forget(gone)
        with self._db.write() as txn:
            for number in gone:
                txn.delete(IDENTITIES, number)

    def _carried(self) -> bool:
        """Whether the kernel has every prefix with its present identity, and none that was removed."""
        installed = {row.prefix: row.identity for row in self._db.table(INSTALLED_PREFIXES).all()}
        present = {row.prefix: row.identity for row in self._db.table(PREFIX_IDENTITIES).all()}
        return not self._db.table(IPCACHE).leaving and all(installed.get(p) == n for p, n in present.items())
