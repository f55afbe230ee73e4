# SPDX-License-Identifier: Apache-2.0
"""IPCACHE and ROUTES follow nodes and endpoints; the own node's object comes back when it goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from ciliumpy.datapath.changes import hold_addresses
from ciliumpy.kit.clock import SystemClock
from ciliumpy.nodes.controller import NodeController, routes, with_addresses
from ciliumpy.nodes.derive import Families
from ciliumpy.nodes.ipcache import IPCacheController
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.tables.datapath import NodeAddress
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import CALLED_PODS, CALLED_WAIT_S, CalledPod
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import ENDPOINT_OBJECTS, NODES, PODS, EndpointObject, NamedPort, Node, Pod
from tests.unit.state.support import FakeClock

N1 = Node("n1", "c", ("172.30.0.1",), ("10.0.0.1", "fd00::1"), ("10.0.0.0/24", "fd00::/64"))
N2 = Node("n2", "c", ("172.30.0.2",), ("10.0.1.1",), ("10.0.1.0/24",))


@pytest.fixture
def db() -> Database:
    return Database(ALL_TABLES)


def held(db: Database) -> dict[str, tuple[int, str]]:
    return {row.prefix: (row.identity, row.tunnel) for row in db.table(IPCACHE).all()}


async def test_ipcache_follows_nodes_and_endpoints(db: Database) -> None:
    hold_addresses(db, [NodeAddress("172.30.0.1", "eth0", native=True), NodeAddress("10.0.0.1", "cilium_host")])
    controller = IPCacheController(db, "n1", Families(ipv6=False))
    first = {"0.0.0.0/0": (2, ""), "172.30.0.1/32": (1, ""), "10.0.0.1/32": (1, "")}
    assert held(db) == first, "the world and the host are known from the start"
    away = EndpointObject("shop", "db", 3, 300, "n2", "172.30.0.2", ("10.0.1.9",))
    own = EndpointObject("shop", "api", 4, 301, "n1", "172.30.0.1", ("10.0.0.9",))
    with db.write() as txn:
        txn.upsert(ENDPOINT_OBJECTS, away)
        txn.upsert(ENDPOINT_OBJECTS, own)
        txn.upsert(NODES, N1)
    await controller.step()
    assert held(db) == first, "whose node is unknown has no place; our own object is not believed"
    with db.write() as txn:
        txn.upsert(NODES, N2)
        txn.upsert(
            ENDPOINTS,
            Endpoint(4, 1, "shop", "api", "c", "eth0", "lxc", 9, 2, "", "", ipv4="10.0.0.9", identity=301),
        )
    await controller.step()
    tunnel = "172.30.0.2"
    assert held(db) == first | {
        "172.30.0.2/32": (6, tunnel),
        "10.0.1.1/32": (6, tunnel),
        "10.0.1.9/32": (300, tunnel),
        "10.0.0.9/32": (301, ""),
    }
    with db.write() as txn:
        txn.upsert(NODES, Node("n2", "c", ("172.30.0.7",), (), ("10.0.1.0/24",)))
        txn.delete(ENDPOINTS, 4)
    await controller.step()
    assert held(db) == first | {
        "172.30.0.7/32": (6, "172.30.0.7"),
        "10.0.1.9/32": (300, "172.30.0.7"),
    }
    with db.write() as txn:
        txn.delete(NODES, "n2")
        txn.delete(ENDPOINT_OBJECTS, ("shop", "db"))
    await controller.step()
    assert held(db) == first


@pytest.mark.parametrize("local", [True, False])
async def test_a_pod_with_named_ports_becomes_another_when_policies_call_it_so(local: bool) -> None:
    clock = FakeClock()
    db = Database(ALL_TABLES, clock=clock)
    controller = IPCacheController(db, "n1", Families(ipv6=False))
    address = "10.0.0.9" if local else "10.0.1.9"

    def become(identity: int, *ports: NamedPort) -> None:
        pod = Endpoint(4, 1, "shop", "db", "c", "eth0", "lxc", 9, 2, "", "", ipv4=address, identity=identity)
        with db.write() as txn:
            txn.upsert(NODES, N1)
            txn.upsert(NODES, N2)
            txn.upsert(PODS, Pod("shop", "db", ports=ports))
            if local:
                txn.upsert(ENDPOINTS, msgspec.structs.replace(pod, named_ports=ports))
            else:
                txn.upsert(ENDPOINT_OBJECTS, EndpointObject("shop", "db", 3, identity, "n2", "172.30.0.2", (address,)))

    async def known_as() -> int:
        await controller.step()
        return held(db)[f"{address}/32"][0]

    http = NamedPort("http", "TCP", 8080)
    become(300, http)
    assert await known_as() == 300, "a pod that is new waits for nothing"
    become(301, http)
    assert await known_as() == await known_as() == 300
    with db.write() as txn:
        txn.upsert(CALLED_PODS, CalledPod("shop", "db", 301))
    assert await known_as() == 301
    become(302, http)
    assert await known_as() == 301
    clock.advance(CALLED_WAIT_S + 0.1)
    assert await known_as() == 302, "nobody waits for ever"
    become(303)
    assert await known_as() == 303, "without named ports there is nothing to wait for"
    become(304, http)
    assert await known_as() == 303
    with db.write() as txn:
        txn.delete(ENDPOINTS, 4)
        txn.delete(ENDPOINT_OBJECTS, ("shop", "db"))
    await controller.step()
    assert f"{address}/32" not in held(db)


async def test_a_pod_that_nobody_plugged_in_is_unmanaged_until_somebody_does(db: Database) -> None:
    controller = IPCacheController(db, "n1", Families(ipv6=False))
    pods = [
        Pod("shop", "old", node="n1", ips=("10.9.0.5",)),
        Pod("shop", "far", node="n2", ips=("10.0.1.9",)),
        Pod("shop", "forged", node="n1", ips=("10.0.1.8", "172.30.0.2")),
        Pod("shop", "lost", node="n9", ips=("10.9.0.6",)),
        Pod("shop", "host", node="n1", ips=("10.9.0.7",), host_network=True),
    ]
    with db.write() as txn:
        for pod in pods:
            txn.upsert(PODS, pod)
        txn.upsert(NODES, N1)
        txn.upsert(NODES, N2)
    await controller.step()
    unmanaged = {p: row.tunnel for p, row in ((r.prefix, r) for r in db.table(IPCACHE).all()) if row.identity == 3}
    assert unmanaged == {"10.9.0.5/32": "", "10.0.1.9/32": "172.30.0.2"}
    assert held(db)["172.30.0.2/32"] == (6, "172.30.0.2"), "a node is more than a pod that says so"
    with db.write() as txn:
        txn.upsert(ENDPOINT_OBJECTS, EndpointObject("shop", "far", 3, 300, "n2", "172.30.0.2", ("10.0.1.9",)))
        txn.upsert(
            ENDPOINTS,
            Endpoint(4, 1, "shop", "old", "c", "eth0", "lxc", 9, 2, "", "", ipv4="10.9.0.5", identity=301),
        )
    await controller.step()
    assert (held(db)["10.0.1.9/32"], held(db)["10.9.0.5/32"]) == ((300, "172.30.0.2"), (301, ""))
    with db.write() as txn:
        txn.delete(ENDPOINTS, 4)
        txn.delete(PODS, ("shop", "far"))
        txn.delete(ENDPOINT_OBJECTS, ("shop", "far"))
        txn.upsert(NODES, Node("n9", "c", ("172.30.0.9",), (), ("10.9.0.0/24",)))
    await controller.step()
    assert "10.0.1.9/32" not in held(db)
    assert "10.9.0.5/32" not in held(db), "it is of n9's pod CIDR now, and not n9's pod"
    assert held(db)["10.9.0.6/32"] == (3, "172.30.0.9")


def test_routes_go_to_every_pod_cidr_that_covers_no_node() -> None:
    greedy = Node("n3", "c", ("172.30.0.3",), (), ("172.30.0.0/16", "0.0.0.0/0", "10.0.3.0/24", "10.0.0.0/24"))
    wanted = routes(N1, [N1, N2, greedy])
    assert {d: r.source for d, r in wanted.items()} == {
        "10.0.0.0/24": "10.0.0.1",
        "fd00::/64": "fd00::1",
        "10.0.1.0/24": "10.0.0.1",
        "10.0.3.0/24": "10.0.0.1",
    }


def test_the_own_addresses_follow_the_device_and_the_first_stays_first() -> None:
    two = msgspec.structs.replace(N1, internal_ips=("172.30.0.1", "fd00:9::7"))
    present = [NodeAddress(a, "eth0", native=True) for a in ("172.30.0.9", "fd00:9::7", "172.30.0.1", "fd00:9::1")]
    other = NodeAddress("10.0.0.1", "cilium_host")
    assert with_addresses(two, [*present, other]).internal_ips == ("172.30.0.1", "172.30.0.9", "fd00:9::7", "fd00:9::1")
    assert with_addresses(two, [present[0], other]).internal_ips == ("172.30.0.9",)
    assert with_addresses(two, [other]) == two, "a device that is down for a moment loses us nothing"


async def test_ipcache_follows_the_own_addresses(db: Database) -> None:
    first, second = NodeAddress("172.30.0.1", "eth0", native=True), NodeAddress("172.30.0.5", "eth0", native=True)
    hold_addresses(db, [first])
    controller = IPCacheController(db, "n1", Families(ipv6=False))
    hold_addresses(db, [first, second])
    await controller.step()
    assert held(db) == {"0.0.0.0/0": (2, ""), "172.30.0.1/32": (1, ""), "172.30.0.5/32": (1, "")}
    hold_addresses(db, [second])
    await controller.step()
    assert held(db) == {"0.0.0.0/0": (2, ""), "172.30.0.5/32": (1, "")}


async def test_the_own_object_is_written_again(db: Database, tmp_path: Path) -> None:
    create_store(tmp_path / "store")
    path = tmp_path / "store" / "ciliumnodes" / "n1.yaml"
    health, clock = HealthRegistry(), SystemClock()
    jobs = JobGroup("", health, clock)
    jobs.start_reporting("node", NodeController(db, DirectoryStore(tmp_path / "store"), N1).publish)
    try:
        async with asyncio.timeout(5):
            while not path.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            path.unlink()
            with db.write() as txn:
                txn.upsert(NODES, N1)
                txn.delete(NODES, "n1")
            while not path.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            with db.write() as txn:
                txn.upsert(NODES, N1)
            while health.get("node").state != "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    finally:
        await jobs.stop()
