# SPDX-License-Identifier: Apache-2.0
"""The end of a start: when sockets listen, and when everything that was found has been carried over once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import VECTORS
from ciliumpy.tables.identities import IDENTITIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ciliumpy.datapath.reconcile import Reconcilers
    from ciliumpy.nodes.ipcache import IPCacheController
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import JobGroup
    from ciliumpy.state.reconciler import Reconciler
    from ciliumpy.state.table import Table

WAIT_S = 10.0

_log = logging.getLogger(__name__)


class Settle:
    """A job that ends with the start: it lets the reconcilers remove what a former agent left, then bumps all epochs.

    That is done only when the tables are whole: the store is read, every identity has its vector, every restored
    endpoint its policy. What cannot be had in ten seconds is not waited for, and such endpoints keep what they have;
    the prefixes that policies name are, as long as it takes.
    """

    def __init__(
        self,
        db: Database,
        ready: asyncio.Event,
        ipcache: IPCacheController,
        reconcilers: Reconcilers,
        publish: Reconciler[Any],
    ) -> None:
        self.done = asyncio.Event()
        self._db = db
        self._ready = ready
        self._ipcache = ipcache
        self._reconcilers = reconcilers
        self._publish = publish

    async def run(self) -> None:
        await self._ready.wait()
        await self._ipcache.caught_up.wait()
        await self._until(self._has_vectors, "selector vectors")
        await self._until(self._has_slots, "the policy of restored endpoints")
        # Without them, addresses would fall to wider prefixes, past what denies them.
        while not await self._until(lambda: self._ipcache.prefixes.settled, "prefixes that policies name"):
            pass
        await self._reconcilers.complete()
        self._publish.allow_prune()
        self.done.set()
        _log.info("ready: %d endpoints, %d identities", len(self._db.table(ENDPOINTS)), len(self._db.table(IDENTITIES)))

    def _has_vectors(self) -> bool:
        vectors = self._db.table(VECTORS)
        return all(row.id in vectors for row in self._db.table(IDENTITIES).all())

    def _has_slots(self) -> bool:
        kernel = self._db.table(KERNEL_ENDPOINTS)
        return all(
            row.id in kernel and kernel.status(row.id).state == "done" for row in self._db.table(ENDPOINTS).all()
        )

    async def _until(self, condition: Callable[[], bool], what: str) -> bool:
        """Wait until it holds; False when the time is up."""
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_S
        tables: tuple[Table[Any], ...] = tuple(self._db.tables[spec.name] for spec in (IDENTITIES, VECTORS, ENDPOINTS))
        observers = [table.observe("settle") for table in tables]
        try:
            while not condition():
                if loop.time() > until:
                    _log.warning("not complete after %g s: %s", WAIT_S, what)
                    return False
                for observer in observers:
                    observer.take()
                # A status wakes nobody: look again a little later.
                await wait_any(*observers, timeout_s=0.01)
        finally:
            for observer in observers:
                observer.close()
        return True


async def listen(jobs: JobGroup, servers: Mapping[str, Callable[[Callable[[], None]], Awaitable[None]]]) -> None:
    """Start the servers as jobs and return when clients can connect to all. CiliumpyError: one cannot listen."""
    for name, serve in servers.items():
        listening = asyncio.Event()
        job = jobs.start(name, lambda serve=serve, listening=listening: serve(listening.set))  # type: ignore[misc]
        try:
            await asyncio.wait_for(listening.wait(), WAIT_S)
        except TimeoutError:
            await job.stop()
            raise CiliumpyError(f"{name} does not listen after {WAIT_S:g} s", "see the log") from None
