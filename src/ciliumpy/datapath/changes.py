# SPDX-License-Identifier: Apache-2.0
"""Hears when the node's links, addresses or routes change: a cached way may be another now, an address its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.datapath import devices
from ciliumpy.net.watch import Watch
from ciliumpy.state.readable import Readable
from ciliumpy.tables.datapath import NODE_ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.tables.datapath import NodeAddress

SETTLE_S = 0.02  # a change seldom comes alone


def hold_addresses(db: Database, present: Iterable[NodeAddress]) -> None:
    """Make NODE_ADDRESSES exactly these."""
    rows = {row.address: row for row in present}
    with db.write() as txn:
        for row in txn.all(NODE_ADDRESSES):
            if row.address not in rows:
                txn.delete(NODE_ADDRESSES, row.address)
        for row in rows.values():
            txn.upsert(NODE_ADDRESSES, row)


class NetworkChanges:
    """A job: bumps the global epoch, keeps NODE_ADDRESSES. `underlay` is the native device as the agent found it.

    Pods' own devices come and go by our hand and bump what they must themselves.
    """

    def __init__(
        self, db: Database, epochs: Epochs, underlay: devices.Underlay, pods: Callable[[], Collection[int]]
    ) -> None:
        self._db = db
        self._epochs = epochs
        self._underlay = underlay
        self._pods = pods
        self._watch = Watch(ignore=devices.POD_PREFIX)  # from their first message to their last, whoever has them
        self._bumps = 0

    async def run(self, job: Job) -> None:
        heard = Readable(self._watch.fileno())
        await self._read_addresses(job)  # what changed between the agent's first look and the watch
        while True:
            await heard.wait()
            await asyncio.sleep(SETTLE_S)
            if self._watch.read() - set(self._pods()):
                self._epochs.bump_global()
                self._bumps += 1
                await self._read_addresses(job)

    async def _read_addresses(self, job: Job) -> None:
        present = await asyncio.to_thread(devices.own_addresses, self._underlay.name)
        hold_addresses(self._db, present)
        tunnel = self._underlay.own_address(self._underlay.version)
        if any(row.native and row.address == tunnel for row in present):
            job.ok(f"{self._bumps} change{'' if self._bumps == 1 else 's'}")
        else:
            job.degraded(f"{tunnel}, the tunnel's address, is gone from {self._underlay.name}: restart the agent")

    def close(self) -> None:
        self._watch.close()
