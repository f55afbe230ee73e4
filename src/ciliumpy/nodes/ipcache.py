# SPDX-License-Identifier: Apache-2.0
"""Keeps IPCACHE equal to what nodes and endpoints say. Its one writer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.nodes import derive
from ciliumpy.nodes.derive import Claims, Families
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import ENDPOINT_OBJECTS, NODES, EndpointObject, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ciliumpy.state.database import Database

SLICE = 250  # rows derived before others have their turn: some 5 ms


class IPCacheController:
    """A job over NODES, ENDPOINT_OBJECTS and ENDPOINTS. `own` is this node; its addresses are all that it has."""

    def __init__(self, db: Database, own: str, addresses: Iterable[str], families: Families) -> None:
        self._db = db
        self._own = own
        self._families = families
        self._claims = Claims()
        self.caught_up = asyncio.Event()
        self._nodes = db.table(NODES).observe("ipcache")
        self._objects = db.table(ENDPOINT_OBJECTS).observe("ipcache")
        self._endpoints = db.table(ENDPOINTS).observe("ipcache")
        first = self._claims.replace("world", derive.world_claims(families))
        first |= self._claims.replace("own node", derive.own_node_claims(own, addresses))
        self._write(sorted(first))

    async def run(self, ready: asyncio.Event) -> None:
        """Begin when the store's rows are `ready`; `caught_up` is set after the first round."""
        await ready.wait()
        while True:
            await self.step()
            self.caught_up.set()
            await wait_any(self._nodes, self._objects, self._endpoints)

    async def step(self) -> None:
        """Carry over what changed."""
        # A pod's own row comes at once: somebody waits for it.
        changed: set[str] = set()
        for endpoint in self._endpoints.take():
            claims = () if endpoint.deleted else tuple(derive.endpoint_claims(endpoint.row))
            changed |= self._claims.replace(("own", endpoint.row.id), claims)
        self._write(changed)
        objects: dict[tuple[str, str], EndpointObject | None] = {}
        for node in self._nodes.take():
            self._write(self._follow_node(node.row, deleted=node.deleted))
            objects |= {
                (row.namespace, row.name): row for row in self._db.table(ENDPOINT_OBJECTS).by("node", node.row.name)
            }
        for change in self._objects.take():
            objects[change.row.namespace, change.row.name] = None if change.deleted else change.row
        await self._follow_objects(list(objects.items()))

    def _follow_node(self, node: Node, *, deleted: bool) -> set[str]:
        if node.name == self._own:
            return set()
        claims = () if deleted else tuple(derive.node_claims(node, self._families))
        return self._claims.replace(("node", node.name), claims)

    async def _follow_objects(self, objects: Sequence[tuple[tuple[str, str], EndpointObject | None]]) -> None:
        nodes = self._db.table(NODES)
        for start in range(0, len(objects), SLICE):
            changed: set[str] = set()
            for key, row in objects[start : start + SLICE]:
                foreign = row is not None and row.node != self._own
                claims = derive.endpoint_object_claims(row, nodes.get(row.node)) if row and foreign else ()
                changed |= self._claims.replace(("endpoint", key), claims)
            self._write(changed)
            await asyncio.sleep(0)

    def _write(self, prefixes: Iterable[str]) -> None:
        with self._db.write() as txn:
            for prefix in prefixes:
                winner = self._claims.winner(prefix)
                if winner is None:
                    txn.delete(IPCACHE, prefix)
                else:
                    txn.upsert(IPCACHE, winner)
