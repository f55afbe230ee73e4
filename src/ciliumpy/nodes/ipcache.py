# SPDX-License-Identifier: Apache-2.0
"""Keeps IPCACHE equal to what nodes and endpoints say. Its one writer.

Rows of addresses are written as they come; those of prefixes in an order, by prefixes.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ciliumpy.nodes import derive
from ciliumpy.nodes.derive import Claims, Families
from ciliumpy.nodes.prefixes import PrefixRows
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import NODE_ADDRESSES
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import CALLED_PODS, CALLED_WAIT_S
from ciliumpy.tables.identities import NODE_IDENTITIES
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import ENDPOINT_OBJECTS, NODES, PODS, EndpointObject, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ciliumpy.state.database import Database

PodKey = tuple[str, str]
Source = tuple[str, Any]
SLICE = 250  # rows derived before others have their turn: some 5 ms


class IPCacheController:
    """A job over NODES, ENDPOINT_OBJECTS, ENDPOINTS, PODS and NODE_ADDRESSES. `own` is the name of this node."""

    def __init__(self, db: Database, own: str, families: Families) -> None:
        self._db = db
        self._own = own
        self._families = families
        self._claims = Claims()
        self.caught_up = asyncio.Event()
        self._nodes = db.table(NODES).observe("ipcache")
        self._objects = db.table(ENDPOINT_OBJECTS).observe("ipcache")
        self._endpoints = db.table(ENDPOINTS).observe("ipcache")
        self._addresses = db.table(NODE_ADDRESSES).observe("ipcache")
        self._pods = db.table(PODS).observe("ipcache")
        self._node_identities = db.table(NODE_IDENTITIES).observe("ipcache")
        self._called = db.table(CALLED_PODS).observe("ipcache")
        self._early: dict[Source, tuple[int, int]] = {}  # identity that it shall not have yet, since when
        self._unmanaged: set[PodKey] = set()
        self.prefixes = PrefixRows(db, own, families, self._place)
        self._write(self._follow_own_node())

    async def run(self, ready: asyncio.Event) -> None:
        """Begin when the store's rows are `ready`; `caught_up` is set after the first round."""
        await ready.wait()
        while True:
            await self.step()
            self.caught_up.set()
            await wait_any(
                self._nodes,
                self._node_identities,
                self._objects,
                self._endpoints,
                self._addresses,
                self._pods,
                self._called,
                timeout_s=CALLED_WAIT_S / 10 if self._early else None,
            )

    async def step(self) -> None:
        """Carry over what changed."""
        # A pod's own row comes at once: somebody waits for it.
        changed: set[str] = set()
        pods: set[PodKey] = set()
        self._called.take()
        early = list(self._early)
        for endpoint in self._endpoints.take():
            pods.add((endpoint.row.namespace, endpoint.row.pod))
            changed |= self._follow_own(None if endpoint.deleted else endpoint.row, endpoint.row.id)
        for kind, number in early:
            if kind == "own" and (kind, number) in self._early:
                changed |= self._follow_own(self._db.table(ENDPOINTS).get(number), number)
        if self._addresses.take():
            changed |= self._follow_own_node()
        self._write(changed)
        objects: dict[PodKey, EndpointObject | None] = {
            key: self._db.table(ENDPOINT_OBJECTS).get(key) for kind, key in early if kind == "endpoint"
        }
        for node in self._nodes.take():
            pods |= self._unmanaged | {(p.namespace, p.name) for p in self._db.table(PODS).by("node", node.row.name)}
            self._write(self._follow_node(node.row, deleted=node.deleted))
            objects |= {
                (row.namespace, row.name): row for row in self._db.table(ENDPOINT_OBJECTS).by("node", node.row.name)
            }
        for named in self._node_identities.take():
            if known := self._db.table(NODES).get(named.row.node):
                self._write(self._follow_node(known, deleted=False))
        for change in self._objects.take():
            objects[change.row.namespace, change.row.name] = None if change.deleted else change.row
        await self._follow_objects(list(objects.items()))
        await self._follow_pods([*pods, *objects, *((pod.row.namespace, pod.row.name) for pod in self._pods.take())])

    def _follow_own(self, row: Endpoint | None, number: int) -> set[str]:
        source = ("own", number)
        claims = tuple(derive.endpoint_claims(row)) if row else ()
        if row and self._is_early(source, (row.namespace, row.pod), claims, named=bool(row.named_ports)):
            return set()
        return self._claims.replace(source, claims)

    def _is_early(self, source: Source, key: PodKey, claims: Sequence[derive.Claim], *, named: bool) -> bool:
        """Whether the pod is called by its ports as the one that it was: at the new one policies would not find them.

        Only of a pod that goes on under its addresses.
        """
        held, called = self._claims.of(source), self._db.table(CALLED_PODS).get(key)
        identity = claims[0].entry.identity if claims else 0
        if (
            not named
            or [claim.entry.prefix for claim in held] != [claim.entry.prefix for claim in claims]
            or all(claim.entry.identity == identity for claim in held)
            or (called is not None and called.identity == identity)
        ):
            self._early.pop(source, None)
            return False
        now = self._db.clock.monotonic_ns()
        before, since = self._early.get(source, (0, now))
        self._early[source] = (identity, since if before == identity else now)
        return now - self._early[source][1] < CALLED_WAIT_S * 1e9

    def _follow_own_node(self) -> set[str]:
        addresses = [row.address for row in self._db.table(NODE_ADDRESSES).all()]
        return self._claims.replace("own node", derive.own_node_claims(self._own, addresses))

    def _place(self, claims: Mapping[str, derive.Claim | None]) -> None:
        """Claim these prefixes, or none of them any more."""
        for prefix, claim in claims.items():
            self._claims.replace(("prefix", prefix), (claim,) if claim else ())
        self._write(claims)

    def _follow_node(self, node: Node, *, deleted: bool) -> set[str]:
        if node.name == self._own:
            return set()
        known = self._db.table(NODE_IDENTITIES).get(node.name)
        identity = known.identity if known else derive.REMOTE_NODE
        claims = () if deleted else tuple(derive.node_claims(node, self._families, identity))
        return self._claims.replace(("node", node.name), claims)

    async def _follow_objects(self, objects: Sequence[tuple[tuple[str, str], EndpointObject | None]]) -> None:
        nodes = self._db.table(NODES)
        for start in range(0, len(objects), SLICE):
            changed: set[str] = set()
            for key, row in objects[start : start + SLICE]:
                foreign = row is not None and row.node != self._own
                claims: tuple[derive.Claim, ...] = ()
                if row and foreign:
                    claims = tuple(derive.endpoint_object_claims(row, nodes.get(row.node), self._families.underlay))
                pod = self._db.table(PODS).get(key)
                if self._is_early(("endpoint", key), key, claims, named=bool(pod and pod.ports)):
                    continue
                changed |= self._claims.replace(("endpoint", key), claims)
            self._write(changed)
            await asyncio.sleep(0)

    async def _follow_pods(self, keys: Sequence[PodKey]) -> None:
        """Claim the addresses of pods that have no endpoint anywhere."""
        pods, endpoints, objects = (self._db.table(each) for each in (PODS, ENDPOINTS, ENDPOINT_OBJECTS))
        nodes: dict[str, Node] = {}
        for start in range(0, len(keys), SLICE):
            changed: set[str] = set()
            for key in keys[start : start + SLICE]:
                pod = pods.get(key)
                claims: tuple[derive.Claim, ...] = ()
                if pod and pod.ips and key not in objects and not endpoints.by("pod", key):
                    nodes = nodes or {node.name: node for node in self._db.table(NODES).all()}
                    claims = tuple(derive.unmanaged_claims(pod, self._own, nodes, self._families.underlay))
                (self._unmanaged.add if pod and pod.ips else self._unmanaged.discard)(key)
                changed |= self._claims.replace(("pod", key), claims)
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
