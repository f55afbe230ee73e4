# SPDX-License-Identifier: Apache-2.0
"""Keeps this node's object in the store, and the routes to every node's pod CIDRs."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

import msgspec

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.nodes.objects import KIND, labels_in, node_object
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import NODE_ADDRESSES, ROUTES, NodeAddress, Route
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.source import NODES, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.store.interface import Store

RETRY = Backoff(first_s=1.0, most_s=10.0)


class NodeController:
    """Two jobs: `publish` writes this node's object, `route` derives ROUTES from all nodes.

    `own` is the node as the agent found it; its addresses follow those of the native device (NODE_ADDRESSES).
    """

    def __init__(self, db: Database, store: Store, own: Node) -> None:
        self._db = db
        self._store = store
        self._own = own
        self._nodes = db.table(NODES)

    async def publish(self, job: Job) -> None:
        """Write the object again whenever it is not what this node is."""
        observer, addresses = self._nodes.observe("own node"), self._db.table(NODE_ADDRESSES).observe("own node")
        failures = 0
        try:
            while True:
                observer.take()
                if addresses.take():
                    self._own, failures = with_addresses(self._own, self._db.table(NODE_ADDRESSES).all()), 0
                wait_s = None
                if self._is_written():
                    failures = 0
                    job.ok()
                else:
                    try:
                        await asyncio.to_thread(self._put)
                    except CiliumpyError as error:
                        job.degraded(error.message)
                    failures += 1
                    # It comes back by the watch; if it does not, once more.
                    wait_s = RETRY.delay_s(failures)
                await wait_any(observer, addresses, timeout_s=wait_s)
        finally:
            observer.close()
            addresses.close()

    async def route(self) -> None:
        """Derive the routes, those of this node's own pod CIDRs also while the store cannot be read."""
        observer, endpoints = self._nodes.observe("routes"), self._db.table(ENDPOINTS).observe("routes")
        chained: dict[int, Endpoint] = {}
        first = True
        try:
            while True:
                moved, first = bool(observer.take()) or first, False
                for change in endpoints.take():
                    if change.row.chained and not change.deleted:
                        moved |= chained.get(change.row.id) != change.row
                        chained[change.row.id] = change.row
                    else:
                        moved |= chained.pop(change.row.id, None) is not None
                if moved:
                    self._write(routes(self._own, self._nodes.all()) | endpoint_routes(self._own, chained.values()))
                await wait_any(observer, endpoints)
        finally:
            observer.close()
            endpoints.close()

    def _write(self, wanted: Mapping[str, Route]) -> None:
        with self._db.write() as txn:
            for row in txn.all(ROUTES):
                if row.destination not in wanted:
                    txn.delete(ROUTES, row.destination)
            for row in wanted.values():
                txn.upsert(ROUTES, row)

    def _is_written(self) -> bool:
        """Whether the object says what this node is. Its labels are whoever's who gives them."""
        row = self._nodes.get(self._own.name)
        return row is not None and msgspec.structs.replace(row, labels=self._own.labels) == self._own

    def _put(self) -> None:
        with self._store.transaction() as txn:
            present = txn.get(KIND, self._own.name)
            labels = self._own.labels if present is None else tuple(sorted(labels_in(present.document).items()))
            txn.put(node_object(msgspec.structs.replace(self._own, labels=labels)))


def with_addresses(own: Node, present: Iterable[NodeAddress]) -> Node:
    """Return the node with the addresses of its native device; the first of each family stays so while it is there.

    Others reach this node's pods by the first. A device that has none for a while (it is down) loses us nothing.
    """
    native = [ipaddress.ip_address(row.address) for row in present if row.native]
    if not native:
        return own
    rank = {address: position for position, address in enumerate(own.internal_ips)}
    ordered = sorted(native, key=lambda ip: (ip.version, rank.get(str(ip), len(rank)), int(ip)))
    return msgspec.structs.replace(own, internal_ips=tuple(str(ip) for ip in ordered))


def routes(own: Node, nodes: list[Node]) -> dict[str, Route]:
    """Return the routes that the host wants, by destination. A prefix that covers an address of a node is refused."""
    sources = {":" in router: router for router in own.router_ips}
    underlay = [ipaddress.ip_address(ip) for node in [own, *nodes] for ip in node.internal_ips]
    wanted: dict[str, Route] = {}
    for node in [own, *(n for n in nodes if n.name != own.name)]:
        for cidr in node.pod_cidrs:
            source = sources.get(":" in cidr)
            network = ipaddress.ip_network(cidr)
            if source and str(network) not in wanted and not any(ip in network for ip in underlay):
                wanted[str(network)] = Route(str(network), source)
    return wanted


def endpoint_routes(own: Node, endpoints: Iterable[Endpoint]) -> dict[str, Route]:
    """Return the host's routes to pods whose addresses are none of a pod CIDR, by destination."""
    sources = {":" in router: router for router in own.router_ips}
    wanted = {}
    for address in (a for row in endpoints for a in (row.ipv4, row.ipv6) if a):
        if source := sources.get(":" in address):
            destination = f"{address}/{128 if ':' in address else 32}"
            wanted[destination] = Route(destination, source)
    return wanted
