# SPDX-License-Identifier: Apache-2.0
"""The node as an endpoint, where policies for nodes are in force: a row in ENDPOINTS without pod, device or address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ciliumpy.endpoints.state import READY, RESTORING
from ciliumpy.model.identity import Reserved
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.endpoints import ENDPOINTS, HOST_ID, Endpoint
from ciliumpy.tables.identities import IDENTITIES

if TYPE_CHECKING:
    import asyncio

    from ciliumpy.state.database import Database

GENERATION = 1  # it is always the same node


class HostEndpoint:
    """A job. The row is there from the start, so that what a former agent enforced stays in force.

    `audit` is its own mode, if it has one. It has its identity when the identity's labels are `known`: before, policies
    would look as if they selected nobody.
    """

    def __init__(self, db: Database, *, audit: bool | None = None) -> None:
        self._db = db
        self._identities = db.table(IDENTITIES).observe("host endpoint")
        row = Endpoint(HOST_ID, GENERATION, "", "", "", "", "", 0, 0, "", "", state=RESTORING, audit=audit)
        with db.write() as txn:
            txn.upsert(ENDPOINTS, msgspec.structs.replace(row, labels=self._labels()))

    async def run(self, known: asyncio.Event) -> None:
        await known.wait()
        while True:
            self.step()
            await wait_any(self._identities)

    def step(self) -> None:
        """Carry over the identity's labels."""
        self._identities.take()
        with self._db.write() as txn:
            row = txn.get(ENDPOINTS, HOST_ID)
            if row is not None:
                new = msgspec.structs.replace(row, identity=int(Reserved.HOST), labels=self._labels(), state=READY)
                txn.upsert(ENDPOINTS, new)

    def _labels(self) -> tuple[str, ...]:
        identity = self._db.table(IDENTITIES).get(int(Reserved.HOST))
        return identity.labels if identity is not None else ()
