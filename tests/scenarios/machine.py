# SPDX-License-Identifier: Apache-2.0
"""A node: the agent that ships on a fake kernel, and when it has carried everything over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ciliumpy.daemon import agent, settle
from ciliumpy.daemon import config as agent_config
from ciliumpy.daemon.ground import Ground
from ciliumpy.daemon.node import Own
from ciliumpy.daemon.status import Parts
from ciliumpy.datapath import devices as node_devices
from ciliumpy.datapath import policy, routes
from ciliumpy.datapath.devices import Devices, Underlay
from ciliumpy.endpoints import labelling
from ciliumpy.endpoints.attachment import Request
from ciliumpy.endpoints.plug import Gateway
from ciliumpy.enforcement import controller as enforcement
from ciliumpy.ipam.allocate import Pool
from ciliumpy.state.database import Database
from ciliumpy.state.observer import wait_any
from ciliumpy.store.directory import files
from ciliumpy.store.directory.store import create_store
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, NodeAddress
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS, SELECTOR_BITS
from ciliumpy.tables.identities import IDENTITIES, IDENTITY_REQUESTS
from ciliumpy.tables.source import ENDPOINT_OBJECTS, IDENTITY_OBJECTS, NODES, Node
from tests.scenarios.fakes import Datapath, Plug, Routes, Servers, Store
from tests.unit.datapath.kernel import Kernel

WITHIN_S = 10.0
SOON_S = 0.02
OWN = Node("one", "default", ("172.30.0.1",), ("10.244.0.1", "fd00:10:244::1"), ("10.244.0.0/24", "fd00:10:244::/64"))
LAZY = {"policy sets"}  # observers that are asked only when their owner is about to write


ADDRESSES = (
    *(NodeAddress(ip, "eth0", native=True) for ip in OWN.internal_ips),
    *(NodeAddress(ip, "cilium_host") for ip in OWN.router_ips),
)


class Machine:
    """Starts and stops the agent of one node; what is not the agent's own stays."""

    def __init__(self, folder: Path, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "store"
        create_store(self.root)
        (folder / "agent.yaml").write_text(settings)
        given = {"CILIUMPY_PATHS_RUN": str(folder), "CILIUMPY_PATHS_STATE": str(folder), "CILIUMPY_NODE_NAME": OWN.name}
        self._loaded = agent_config.load(folder / "agent.yaml", given)
        self._store = Store(self.root)
        self.kernel = Kernel(self._loaded.value.map_sizes())
        self._datapath, self._plug = Datapath(self.kernel), Plug()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(agent, "Plug", lambda _gateway: self._plug)
        monkeypatch.setattr(routes, "routes", Routes())
        monkeypatch.setattr(node_devices, "own_addresses", lambda _native: ADDRESSES)
        monkeypatch.setattr(policy, "GRACE_S", SOON_S)
        monkeypatch.setattr(labelling, "POD_WAIT_S", SOON_S)
        monkeypatch.setattr(enforcement, "SWEEP_S", SOON_S)
        monkeypatch.setattr(settle, "WAIT_S", 2.0)
        self._task: asyncio.Task[None] | None = None

    # ---- steps -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        started: asyncio.Future[Parts] = loop.create_future()
        ground: asyncio.Future[Ground] = loop.create_future()
        devices = Devices(Underlay("eth0", 2, 1500, OWN.internal_ips), host=3, overlay=4)
        pools = {"ipv4": Pool(OWN.pod_cidrs[0]), "ipv6": Pool(OWN.pod_cidrs[1])}
        own = Own(OWN, pools, devices, ADDRESSES, Gateway(*OWN.router_ips, 1450))
        ground.set_result(Ground(self._store, own, self._datapath))
        self._monkeypatch.setattr(agent, "Servers", lambda parts: Servers(parts, started))
        self._stop = asyncio.Event()
        self._task = loop.create_task(agent.run(self._loaded, ground, self._stop))
        await asyncio.wait([self._task, started], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        self._parts = started.result()
        assert await self.until(self._parts.settle.done.is_set), "the start does not end"

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._stop.set()
            await task
            assert [job for job in self._parts.health.all() if job.restarts] == [], "a job has failed"

    async def put(self, name: str, text: str) -> None:
        await self._carry(name, lambda path: files.write(str(path), text.encode(), replace=True))

    async def delete(self, name: str) -> None:
        await self._carry(name, Path.unlink)

    async def plug_in(self, namespace: str, pod: str) -> None:
        await self._parts.endpoints.add(Request(f"{namespace}-{pod}", "eth0", "", namespace, pod, ""), 0)

    async def plug_out(self, namespace: str, pod: str) -> None:
        assert await self._parts.endpoints.remove(f"{namespace}-{pod}", "eth0")

    async def _carry(self, name: str, change: Callable[[Path], None]) -> None:
        """Change a file and wait until the agent, if there is one, has read it."""
        path = self.root / name
        before = self._store.carried[str(path)]
        change(path)
        if self._task is not None:
            assert await self.until(lambda: self._store.carried[str(path)] > before), f"{name} is not read"

    # ---- waiting -----------------------------------------------------------------------------------------------------

    @property
    def db(self) -> Database:
        return self._parts.db

    async def until(self, condition: Callable[[], bool], within_s: float = WITHIN_S) -> bool:
        """Wait until it holds; False when the time is up. Statuses and maps wake nobody: looks now and then, too."""
        observers = [table.observe("scenario") for table in self.db.tables.values()]
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    assert self._task is None or not self._task.done(), "the agent has ended"
                    for observer in observers:
                        observer.take()
                    await wait_any(*observers, timeout_s=SOON_S)
        except TimeoutError:
            return False
        finally:
            for observer in observers:
                observer.close()
        return True

    async def settled(self) -> None:
        """Wait until all is carried over, and stays so from one look to the next."""
        seen = None

        def quiet() -> bool:
            nonlocal seen
            writes = sum(len(map_.writes) for name, map_ in self.kernel.maps.items() if "epoch" not in name)
            before, seen = seen, (self.db.revision, writes, self._unsettled())
            return seen == before and not seen[-1]

        assert self._task is None or await self.until(quiet), f"not settled: {self._unsettled()}"

    def _unsettled(self) -> str:
        """What is still on its way; nothing if all is carried over, or refused."""
        db = self.db
        for table in db.tables.values():
            if any(o.pending for o in table._observers if o.name != "scenario" and o.name not in LAZY):
                return f"changes of {table.spec.name} that nobody took"
            if table.reconciled and any(table.status(table.spec.key(row)).state == "pending" for row in table.all()):
                return f"rows of {table.spec.name} that are pending"
        if OWN.name not in db.table(NODES):
            return "the own node's object"
        for request in db.table(IDENTITY_REQUESTS).all():
            reserved = any(row.reserved for row in db.table(IDENTITIES).by("labels", request.labels))
            if not reserved and not db.table(IDENTITY_OBJECTS).by("labels", request.labels):
                return f"an identity for {request.labels}"
        return self._unsettled_endpoints() or self._unsettled_sets()

    def _unsettled_endpoints(self) -> str:
        db = self.db
        rows = {(row.namespace, row.pod): row for row in db.table(ENDPOINTS).all()}
        refused = self._refused()
        objects = {(row.namespace, row.name): row for row in db.table(ENDPOINT_OBJECTS).by("node", OWN.name)}
        for pod, row in rows.items():
            identity, slot = db.table(IDENTITIES).get(row.identity), db.table(KERNEL_ENDPOINTS).get(row.id)
            if identity is None or identity.labels != row.labels:
                return f"the identity of {pod}"
            if row.identity not in refused and (slot is None or slot.identity != row.identity):
                return f"the slot of {pod}"
            if pod not in objects or objects[pod].identity != row.identity:
                return f"the object of {pod}"
        return "" if objects.keys() == rows.keys() else "the object of an endpoint that is gone"

    def _refused(self) -> set[int]:
        """Identities whose present policy does not fit."""
        sets = self.db.table(POLICY_SETS)
        return {row.identity for row in sets.all() if sets.status(row.id).state == "error"}

    def _unsettled_sets(self) -> str:
        sets = self.db.table(POLICY_SETS)
        done = {row.id for row in sets.all() if sets.status(row.id).state == "done"}
        held = {int.from_bytes(key, "little") for key in self.kernel.maps["cp_set_v2"].rows}
        if self._parts.kernel.policy.holds_former() and self._refused():
            return ""  # what the agent before this one wrote stays, with its bits, until all slots are ours
        masks = 0
        for row in sets.all():
            for level in (level for each in row.classes for level in each.levels):
                masks |= int.from_bytes(level.mask, "little")
        bits = {row.bit for row in self.db.table(SELECTOR_BITS).all()}
        if held != done:
            return f"sets {done} in the kernel, which has {held}"
        return "" if masks == sum(1 << bit for bit in bits) else "selector bits that no set names"
