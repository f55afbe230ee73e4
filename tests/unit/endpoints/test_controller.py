# SPDX-License-Identifier: Apache-2.0
"""ADD waits for what it needs and undoes all when it does not come; labels are followed; records survive."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ciliumpy.endpoints import controller as module
from ciliumpy.endpoints import labelling
from ciliumpy.endpoints.attachment import DiffersError, Previous, Request, Seen, UnknownContainerError
from ciliumpy.endpoints.controller import Endpoints
from ciliumpy.endpoints.labelling import Labelling
from ciliumpy.endpoints.records import Records
from ciliumpy.endpoints.state import shown_state
from ciliumpy.ipam.allocate import Pool
from ciliumpy.kit.clock import SystemClock
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.nodes.derive import endpoint_claims
from ciliumpy.state.database import Database
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, KernelEndpoint
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.identities import IDENTITIES, IDENTITY_REQUESTS, Identity
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import NAMESPACES, PODS, Namespace, Pod

REQUEST = Request("c1", "eth0", "/run/netns/x", "shop", "api", "uid")


class Plug:
    """Devices that are names in a dictionary."""

    def __init__(self) -> None:
        self.links: dict[str, int] = {}
        self.log: list[str] = []
        self.refuse = ""
        self.refuse_fill = ""

    def create(self, endpoint: Endpoint, netns_fd: int) -> tuple[int, int]:
        if self.refuse:
            raise CiliumpyError(self.refuse)
        self.links[endpoint.host_interface] = 40 + len(self.log)
        self.log.append("create")
        return self.links[endpoint.host_interface], 2

    def fill(self, endpoint: Endpoint, netns_fd: int) -> None:
        if self.refuse_fill:
            raise CiliumpyError(self.refuse_fill)
        self.log.append("fill")

    def remove(self, host_interface: str) -> None:
        self.links.pop(host_interface, None)
        self.log.append("remove")

    def devices(self) -> dict[str, int]:
        return dict(self.links)

    def inspect(self, endpoint: Endpoint, netns_fd: int) -> Seen:
        return Seen(None, None, (), ())

    def is_intact(self, endpoint: Endpoint) -> bool:
        return self.links.get(endpoint.host_interface) == endpoint.ifindex


class Node:
    """The controller, and what answers it: identities, slots and ipcache rows, done as soon as they are there."""

    def __init__(self, folder: Path, plug: Plug | None = None) -> None:
        self.db = Database(ALL_TABLES)
        self.plug = plug or Plug()
        self.pools = {"ipv4": Pool("10.0.0.0/29"), "ipv6": Pool("fd00::/125")}
        self.records = Records(folder)
        self.endpoints = Endpoints(
            self.db,
            self.records,
            self.pools,
            self.plug,
            self,
            clock=SystemClock(),
            labelling=Labelling(self.db, cluster="c"),
        )
        self.faults: list[str] = []
        self.prepared: set[str] = set()
        self.answers = True
        self.next_identity = 256
        self.closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()

    async def closed(self, slot: int, generation: int) -> None:
        self.closing.set()
        await self.may_close.wait()
        self.plug.log.append("closed")

    def prepare(self, device: str, ifindex: int) -> asyncio.Future[None]:
        self.prepared.add(device)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def abandon(self, device: str) -> None:
        self.prepared.discard(device)

    async def verify(self, slot: int) -> list[str]:
        return self.faults

    def pod(self, *, labels: dict[str, str], name: str = "api") -> None:
        with self.db.write() as txn:
            txn.upsert(NAMESPACES, Namespace("shop", (("team", "x"),)))
            txn.upsert(PODS, Pod("shop", name, labels=tuple(labels.items())))

    async def answer(self) -> None:
        requests = self.db.table(IDENTITY_REQUESTS).observe("test")
        rows = self.db.table(ENDPOINTS).observe("test")
        while True:
            for change in requests.take():
                if not self.db.table(IDENTITIES).by("labels", change.row.labels) and self.answers:
                    with self.db.write() as txn:
                        txn.upsert(IDENTITIES, Identity(self.next_identity, change.row.labels))
                    self.next_identity += 1
            for change in rows.take():
                self._carry(change.row, deleted=change.deleted)
            await wait_any(requests, rows)

    def _carry(self, row: Endpoint, *, deleted: bool) -> None:
        with self.db.write() as txn:
            if deleted or not row.identity:
                txn.delete(KERNEL_ENDPOINTS, row.id)
                return
            txn.upsert(
                KERNEL_ENDPOINTS,
                KernelEndpoint(
                    row.id,
                    row.generation,
                    row.ifindex,
                    2,
                    "",
                    row.identity,
                    1,
                    False,
                    False,
                    "",
                    "",
                    audit=bool(row.audit),
                ),
            )
            for claim in endpoint_claims(row):
                txn.upsert(IPCACHE, claim.entry)
        for spec in (KERNEL_ENDPOINTS, IPCACHE):
            table = self.db.table(spec)
            for each in table.all():
                key = spec.key(each)
                table.set_status(key, table.revision_of(key), "done")


@pytest.fixture
async def node(tmp_path: Path):
    node = Node(tmp_path)
    tasks = [asyncio.get_running_loop().create_task(job) for job in (node.answer(), node.endpoints.run())]
    await asyncio.sleep(0)
    yield node
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_add_returns_a_ready_endpoint(node: Node) -> None:
    node.pod(labels={"app": "api"})
    row = await node.endpoints.add(REQUEST, 0)
    assert (row.id, row.ipv4, row.ipv6, row.identity) == (1, "10.0.0.2", "fd00::2", 256)
    assert row.labels == (
        "k8s:app=api",
        "k8s:io.cilium.k8s.namespace.labels.team=x",
        "k8s:io.cilium.k8s.policy.cluster=c",
        "k8s:io.kubernetes.pod.namespace=shop",
    )
    assert shown_state(node.db, row) == ("ready", "")
    assert [record.endpoint.id for record in node.records.load()] == [1]
    assert await node.endpoints.add(REQUEST, 0) == row, "asked again: the same"
    assert node.plug.log == ["create", "fill"]


async def test_delete_goes_through_the_datapath_first(node: Node) -> None:
    node.pod(labels={"app": "api"})
    await node.endpoints.add(REQUEST, 0)
    assert await node.endpoints.remove("c1", "eth0")
    assert node.plug.log == ["create", "fill", "closed", "remove"]
    assert node.records.load() == []
    assert (node.pools["ipv4"].allocated, node.pools["ipv6"].allocated) == (0, 0)
    assert node.db.table(IDENTITY_REQUESTS).all() == []
    assert not await node.endpoints.remove("c1", "eth0")


async def test_add_undoes_all_when_the_identity_does_not_come(node: Node, monkeypatch) -> None:
    monkeypatch.setattr(module, "READY_WAIT_S", 0.05)
    node.answers = False
    node.pod(labels={"app": "api"})
    with pytest.raises(CiliumpyError, match=r"not ready after 0\.05 s: its labels have no identity yet"):
        await node.endpoints.add(REQUEST, 0)
    left_nothing(node)


async def test_add_undoes_all_when_it_is_cancelled(node: Node) -> None:
    node.answers = False
    node.pod(labels={"app": "api"})
    task = asyncio.get_running_loop().create_task(node.endpoints.add(REQUEST, 0))
    async with asyncio.timeout(2):
        while not node.db.table(ENDPOINTS).all():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left_nothing(node)


async def test_add_undoes_all_when_the_device_cannot_be_made(node: Node) -> None:
    node.plug.refuse = "cannot make the veth pair: File exists"
    node.pod(labels={"app": "api"})
    with pytest.raises(CiliumpyError, match="File exists"):
        await node.endpoints.add(REQUEST, 0)
    left_nothing(node)


async def test_add_undoes_all_when_the_pods_side_cannot_be_filled(node: Node) -> None:
    node.plug.refuse_fill = "cannot set the route: No route to host"
    node.pod(labels={"app": "api"})
    with pytest.raises(CiliumpyError, match="No route to host"):
        await node.endpoints.add(REQUEST, 0)
    left_nothing(node)


async def test_an_empty_pool_gives_the_other_familys_address_back(node: Node) -> None:
    node.pools["ipv6"]._used |= set(node.pools["ipv6"].network)
    node.pod(labels={"app": "api"})
    with pytest.raises(CiliumpyError, match="no address is left"):
        await node.endpoints.add(REQUEST, 0)
    assert node.pools["ipv4"].allocated == 0


def left_nothing(node: Node) -> None:
    assert node.plug.links == {}
    assert node.records.load() == []
    assert node.db.table(ENDPOINTS).all() == []
    assert node.db.table(IDENTITY_REQUESTS).all() == []
    assert (node.pools["ipv4"].allocated, node.pools["ipv6"].allocated) == (0, 0)


async def test_an_unknown_pod_is_init_until_it_is_known(node: Node, monkeypatch) -> None:
    monkeypatch.setattr(labelling, "POD_WAIT_S", 0.01)
    row = await node.endpoints.add(REQUEST, 0)
    assert row.labels == ("reserved:init",)
    node.pod(labels={"app": "api"})
    async with asyncio.timeout(2):
        while "k8s:app=api" not in node.db.table(ENDPOINTS).get(1).labels:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_pod_that_comes_in_time_is_waited_for(node: Node) -> None:
    task = asyncio.get_running_loop().create_task(node.endpoints.add(REQUEST, 0))
    await asyncio.sleep(0.01)
    node.pod(labels={"app": "other"}, name="other")
    await asyncio.sleep(0.01)
    node.pod(labels={"app": "api"})
    assert "k8s:app=api" in (await task).labels


async def test_labels_are_followed_and_the_former_identity_holds_meanwhile(node: Node) -> None:
    node.pod(labels={"app": "api"})
    await node.endpoints.add(REQUEST, 0)
    node.answers = False
    node.pod(labels={"app": "api", "tier": "x"})
    table = node.db.table(ENDPOINTS)
    async with asyncio.timeout(2):
        while "k8s:tier=x" not in table.get(1).labels:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert table.get(1).identity == 256
    requests = [row.labels for row in node.db.table(IDENTITY_REQUESTS).all()]
    assert requests == [table.get(1).labels], "the former number may go"
    with node.db.write() as txn:
        txn.upsert(IDENTITIES, Identity(777, table.get(1).labels))
        txn.upsert(NAMESPACES, Namespace("shop", (("team", "y"),)))
    async with asyncio.timeout(2):
        while not any("team=y" in label for label in table.get(1).labels):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        while node.records.load()[0].endpoint.labels != table.get(1).labels:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_two_requests_for_one_container_do_not_run_at_once(node: Node) -> None:
    node.answers = False
    node.pod(labels={"app": "api"})
    task = asyncio.get_running_loop().create_task(node.endpoints.add(REQUEST, 0))
    await asyncio.sleep(0)
    with pytest.raises(CiliumpyError, match="already"):
        await node.endpoints.add(REQUEST, 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_restart_keeps_what_is_intact_and_drops_the_rest(node: Node, tmp_path: Path) -> None:
    for name in ("api", "db", "web"):
        node.pod(labels={"app": name}, name=name)
        await node.endpoints.add(REQUEST._replace(container_id=name, pod=name), 0)
    kept, lost, another = node.db.table(ENDPOINTS).all()
    node.plug.links.pop(lost.host_interface)
    node.plug.links[another.host_interface] += 100  # a device of that name, but not the one it was given
    later = Node(tmp_path, node.plug)
    assert await later.endpoints.restore() == 1
    row = later.db.table(ENDPOINTS).get(kept.id)
    assert (row.identity, row.generation, row.ipv4, row.state) == (
        kept.identity,
        kept.generation,
        kept.ipv4,
        "restoring",
    )
    assert later.pools["ipv4"].allocated == 1
    assert [r.endpoint.id for r in later.records.load()] == [kept.id]
    assert [r.labels for r in later.db.table(IDENTITY_REQUESTS).all()] == [kept.labels]


async def test_an_endpoint_outlives_the_family_that_is_switched_off(node: Node, tmp_path: Path) -> None:
    node.pod(labels={"app": "api"})
    row = await node.endpoints.add(REQUEST, 0)
    later = Node(tmp_path, node.plug)
    del later.pools["ipv6"]
    assert await later.endpoints.restore() == 1
    assert later.pools["ipv4"].allocated == 1
    assert await later.endpoints.remove(row.container_id, row.interface)
    assert later.pools["ipv4"].allocated == 0


async def test_what_comes_while_others_are_collected_stays(node: Node) -> None:
    """One ADD under way when GC begins, one container that is deleted and added anew meanwhile."""

    async def add(container: str) -> Endpoint:
        return await node.endpoints.add(REQUEST._replace(container_id=container, network="net"), 0)

    node.pod(labels={"app": "api"})
    for container in ("stale", "again", "new"):
        await add(container)
    node.endpoints._busy.add(("new", "eth0"))  # it has its row, and is not ready yet
    node.may_close.clear()
    collecting = asyncio.get_running_loop().create_task(node.endpoints.collect("net", set()))
    async with asyncio.timeout(5):
        await node.closing.wait()  # of the first: GC waits for the datapath
        node.endpoints._busy.discard(("new", "eth0"))
        deleting = asyncio.get_running_loop().create_task(node.endpoints.remove("again", "eth0"))
        await asyncio.sleep(0)
        node.may_close.set()
        assert await deleting
        await add("again")
        await collecting
    assert sorted(row.container_id for row in node.db.table(ENDPOINTS).all()) == ["again", "new"]


async def test_check_says_that_an_endpoint_is_not_ready(node: Node, monkeypatch) -> None:
    """Devices and addresses are as they shall be; its policy is not in the datapath."""
    node.pod(labels={"app": "api"})
    row = await node.endpoints.add(REQUEST, 0)
    monkeypatch.setattr(module, "differences", lambda *_: ())
    nothing = Previous((), (), ())
    await node.endpoints.check("c1", "eth0", 0, nothing)
    table = node.db.table(KERNEL_ENDPOINTS)
    table.set_status(row.id, table.revision_of(row.id), "error", "the map is full")
    with pytest.raises(DiffersError) as found:
        await node.endpoints.check("c1", "eth0", 0, nothing)
    assert found.value.hint == "endpoint 1 is not-ready: the map is full"
    with pytest.raises(UnknownContainerError):
        await node.endpoints.check("c1", "eth1", 0, nothing)


async def test_audit_mode_is_in_force_when_it_is_said_and_outlives_the_agent(node: Node, tmp_path: Path) -> None:
    node.pod(labels={"app": "api"})
    number = (await node.endpoints.add(REQUEST, 0)).id
    changed = await node.endpoints.configure(number, audit=True)
    assert changed.audit
    assert node.db.table(KERNEL_ENDPOINTS).get(number).audit
    later = Node(tmp_path, node.plug)
    await later.endpoints.restore()
    assert later.db.table(ENDPOINTS).get(number).audit
    assert (await node.endpoints.configure(number, audit=None)).audit is None
    assert [record.endpoint.audit for record in node.records.load()] == [None]
    node.pod(labels={"app": "other"})  # whatever else changes about it
    await node.endpoints.configure(number, audit=True)
    async with asyncio.timeout(5):
        while node.db.table(ENDPOINTS).get(number).identity == changed.identity:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert node.db.table(ENDPOINTS).get(number).audit
    with pytest.raises(CiliumpyError, match="there is no endpoint 9"):
        await node.endpoints.configure(9, audit=True)
