# SPDX-License-Identifier: Apache-2.0
"""Deletes the objects of identities that nobody in the cluster uses any more.

Every agent looks, and under the store's lock whoever comes first deletes: what no endpoint object has named and nobody
here has asked for all the time, and what nobody began to use in that time (the object's heartbeat). The highest number
stays: numbers go on after it, so that one that was given up rests.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from ciliumpy.identity.allocate import KIND, heartbeat_ns, is_allocatable, labels_of
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.identities import IDENTITY_REQUESTS
from ciliumpy.tables.source import ENDPOINT_OBJECTS, IDENTITY_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.store.interface import Store

BATCH = 100  # deleted under one lock: some 50 ms
PAUSE_S = 0.2  # between two locks: others have their turn
NS = 1_000_000_000
ENDPOINT_KIND = "CiliumEndpoint"

_log = logging.getLogger(__name__)


class Collector:
    """A job: looks every `interval_s`, deletes what nobody has used for `timeout_s`."""

    def __init__(self, db: Database, store: Store, *, interval_s: float, timeout_s: float) -> None:
        self._db = db
        self._store = store
        self._interval_s = interval_s
        self._timeout_ns = int(timeout_s * NS)
        self._unused_since: dict[int, int] = {}
        self.deleted = 0

    async def run(self, job: Job, ready: asyncio.Event) -> None:
        """Begin when the store's rows are `ready`. Agents that were started together do not look together."""
        await ready.wait()
        while True:
            try:
                await self.round()
                job.ok(f"{len(self._unused_since)} identities are not used, {self.deleted} were deleted")
            except CiliumpyError as error:
                job.degraded(f"identities that nobody uses cannot be deleted: {error.message}")
            await asyncio.sleep(self._interval_s * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def round(self) -> int:
        """Look once; return how many were deleted. CiliumpyError: the store cannot be changed."""
        now_ns = self._db.clock.monotonic_ns()
        unused = self._unused()
        self._unused_since = {number: self._unused_since.get(number, now_ns) for number in unused}
        old = sorted(n for n, since_ns in self._unused_since.items() if now_ns - since_ns >= self._timeout_ns)
        deleted = 0
        for start in range(0, len(old), BATCH):
            if start:
                await asyncio.sleep(PAUSE_S)
            still = self._unused()
            batch = {number: still[number] for number in old[start : start + BATCH] if number in still}
            known = {(row.namespace, row.name) for row in self._db.table(ENDPOINT_OBJECTS).all()}
            gone = await asyncio.to_thread(self._delete, batch, known, self._db.clock.now_ns())
            deleted += len(gone)
            for number in gone:
                self._unused_since.pop(number, None)
        if deleted:
            _log.info("%d identities were deleted: nobody uses them", deleted)
        self.deleted += deleted
        return deleted

    def _unused(self) -> dict[int, tuple[str, ...]]:
        """Return the identities, with their labels, that nobody uses as far as is known here."""
        rows = [row for row in self._db.table(IDENTITY_OBJECTS).all() if is_allocatable(row.id)]
        highest = max((row.id for row in rows), default=0)
        far, here = self._db.table(ENDPOINT_OBJECTS), self._db.table(ENDPOINTS)
        asked = self._db.table(IDENTITY_REQUESTS)
        return {
            row.id: row.labels
            for row in rows
            if row.id != highest
            and row.labels not in asked
            and not far.by("identity", row.id)
            and not here.by("identity", row.id)
        }

    def _delete(
        self, batch: Mapping[int, tuple[str, ...]], known: Collection[tuple[str, str]], now_ns: int
    ) -> list[int]:
        """Delete these, as far as they are as they were and nobody has begun to use them; return which."""
        with self._store.transaction() as txn:
            if not txn.names(ENDPOINT_KIND) <= set(known):
                return []  # there are endpoints that we have not read yet: they may use any of them
            gone = []
            for number, labels in batch.items():
                try:
                    stored = txn.get(KIND, str(number))
                except CiliumpyError as error:
                    _log.warning("CiliumIdentity %d stays: %s", number, error)
                    continue
                if stored is None or labels_of(stored.document) != labels:
                    continue
                if now_ns - heartbeat_ns(stored.document) >= self._timeout_ns and txn.delete(KIND, str(number)):
                    gone.append(number)
            return gone
