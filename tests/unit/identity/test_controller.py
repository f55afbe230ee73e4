# SPDX-License-Identifier: Apache-2.0
"""Several agents on one real folder: a label set has one number, whoever asks first."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from ciliumpy.identity.allocate import document, heartbeat_ns
from ciliumpy.identity.controller import Controller
from ciliumpy.kit.clock import SystemClock
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.options import PolicyOptions
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.store.decode import decode
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.tables.identities import IDENTITIES, IDENTITY_REQUESTS, IdentityRequest
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import ENDPOINT_OBJECTS, IDENTITY_OBJECTS, EndpointObject, IdentityObject


class Health(HealthRegistry):
    def __init__(self) -> None:
        super().__init__()
        self.degraded_once = asyncio.Event()

    def report(self, name, state, *rest) -> None:
        super().report(name, state, *rest)
        if state == "degraded":
            self.degraded_once.set()


class Agent:
    def __init__(self, store: DirectoryStore) -> None:
        self.db = Database(ALL_TABLES)
        self.store = store
        self.ready = asyncio.Event()
        self.ready.set()
        self.health = Health()
        self.controller = Controller(self.db, store, ready=self.ready)

    def ask(self, *labels: str) -> None:
        with self.db.write() as txn:
            txn.upsert(IDENTITY_REQUESTS, IdentityRequest(labels))

    def number(self, *labels: str) -> int | None:
        rows = self.db.table(IDENTITIES).by("labels", labels)
        return rows[0].id if rows else None

    async def numbered(self, *labels: str) -> int:
        observer = self.db.table(IDENTITIES).observe("test")
        async with asyncio.timeout(10):
            while (number := self.number(*labels)) is None:
                observer.take()
                await observer.wait()
        observer.close()
        return number

    def read_store(self) -> None:
        """What the reflector does."""
        with self.store.transaction() as view, self.db.write() as txn:
            found = {stored.key: stored for stored in view.list("CiliumIdentity")}
            rows = [decode(key, s.document, origin=s.origin, options=PolicyOptions()).row for key, s in found.items()]
            for row in self.db.table(IDENTITY_OBJECTS).all():
                if row.id not in {r.id for r in rows}:
                    txn.delete(IDENTITY_OBJECTS, row.id)
            for row in rows:
                txn.upsert(IDENTITY_OBJECTS, row)


@pytest.fixture
def store(tmp_path):
    create_store(tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


@asynccontextmanager
async def running(*agents: Agent):
    groups = []
    for agent in agents:
        group = JobGroup("", agent.health, SystemClock())
        group.start_reporting("identity", agent.controller.run)
        groups.append(group)
    try:
        yield
    finally:
        for group in groups:
            await group.stop()


async def test_agents_agree(store):
    agents = [Agent(store) for _ in range(4)]
    for at, agent in enumerate(agents):
        for n in range(10):
            agent.ask(f"k8s:n={(n + at) % 12}")
    async with running(*agents):
        numbers = {}
        for at, agent in enumerate(agents):
            for n in range(10):
                label = f"k8s:n={(n + at) % 12}"
                number = await agent.numbered(label)
                assert numbers.setdefault(label, number) == number
    assert sorted(numbers.values()) == list(range(256, 268))
    with store.transaction() as txn:
        assert {name for _, name in txn.names("CiliumIdentity")} == {str(n) for n in range(256, 268)}


async def test_numbers_survive_an_agent(store):
    first = Agent(store)
    first.ask("k8s:app=web")
    async with running(first):
        number = await first.numbered("k8s:app=web")
    second = Agent(store)
    second.read_store()
    second.ask("k8s:app=web")
    second.ask("k8s:app=db")
    async with running(second):
        assert await second.numbered("k8s:app=web") == number
        assert await second.numbered("k8s:app=db") == number + 1


async def test_a_reserved_label_set_has_its_number(store):
    agent = Agent(store)
    agent.ask("reserved:init")
    agent.ask("k8s:app=web")
    async with running(agent):
        await agent.numbered("k8s:app=web")
    assert agent.number("reserved:init") == 5
    with store.transaction() as txn:
        assert len(txn.names("CiliumIdentity")) == 1


async def test_an_identity_in_use_that_is_deleted_comes_back_with_its_number(store):
    agent = Agent(store)
    agent.ask("k8s:app=web")
    async with running(agent):
        number = await agent.numbered("k8s:app=web")
        agent.read_store()
        await asyncio.to_thread(store.delete, "CiliumIdentity", str(number))
        agent.read_store()
        assert agent.number("k8s:app=web") == number
        agent.ask("k8s:app=next")
        assert await agent.numbered("k8s:app=next") != number
    with store.transaction() as txn:
        stored = txn.get("CiliumIdentity", str(number))
    assert stored is not None
    assert stored.document["security-labels"] == {"k8s:app": "web"}


async def test_an_identity_that_nobody_asks_for_goes_with_its_object(store):
    agent = Agent(store)
    with agent.db.write() as txn:
        txn.upsert(IDENTITY_OBJECTS, IdentityObject(700, ("k8s:app=far",)))
    async with running(agent):
        assert await agent.numbered("k8s:app=far") == 700
        with agent.db.write() as txn:
            txn.delete(IDENTITY_OBJECTS, 700)
        agent.ask("k8s:app=near")
        await agent.numbered("k8s:app=near")
    assert agent.number("k8s:app=far") is None


async def test_an_object_cannot_take_a_reserved_number(store, caplog):
    agent = Agent(store)
    with agent.db.write() as txn:
        txn.upsert(IDENTITY_OBJECTS, IdentityObject(1, ("k8s:app=evil",)))
        txn.upsert(IDENTITY_OBJECTS, IdentityObject(700, ("k8s:app=ok",)))
    async with running(agent):
        await agent.numbered("k8s:app=ok")
    assert agent.db.table(IDENTITIES).get(1).labels == ("reserved:host",)
    assert "CiliumIdentity 1 is ignored" in caplog.text


async def test_nothing_is_allocated_before_the_store_is_read(store):
    agent = Agent(store)
    agent.ready.clear()
    agent.ask("k8s:app=web")
    async with running(agent):
        for _ in range(20):
            await asyncio.sleep(0)
        assert agent.number("k8s:app=web") is None
        agent.ready.set()
        await agent.numbered("k8s:app=web")


async def test_without_a_store_it_says_so_and_goes_on(store, tmp_path):
    agent = Agent(store)
    agent.ask("k8s:app=web")
    (tmp_path / "store").rename(tmp_path / "away")
    async with running(agent):
        async with asyncio.timeout(10):
            await agent.health.degraded_once.wait()
        [health] = agent.health.all()
        assert "1 label sets have no number: the store" in health.message
        (tmp_path / "away").rename(tmp_path / "store")
        await agent.numbered("k8s:app=web")


async def test_an_identity_that_an_address_has_goes_after_the_address(store):
    agent = Agent(store)
    with agent.db.write() as txn:
        txn.upsert(IDENTITY_OBJECTS, IdentityObject(700, ("k8s:app=far",)))
        txn.upsert(IPCACHE, IPCacheEntry("10.0.1.9/32", 700))
    async with running(agent):
        assert await agent.numbered("k8s:app=far") == 700
        with agent.db.write() as txn:
            txn.delete(IDENTITY_OBJECTS, 700)
        agent.ask("k8s:app=near")
        await agent.numbered("k8s:app=near")
        assert agent.number("k8s:app=far") == 700, "what it sends would be nobody's"
        with agent.db.write() as txn:
            txn.delete(IPCACHE, "10.0.1.9/32")
        agent.ask("k8s:app=next")
        await agent.numbered("k8s:app=next")
        assert agent.number("k8s:app=far") is None


async def test_who_takes_up_an_identity_that_nobody_uses_says_so_first(store):
    with store.transaction() as txn:
        for number in (700, 701):
            txn.create(document(number, (f"k8s:n={number}",), 5_000_000_000))
    agent = Agent(store)
    agent.read_store()
    with agent.db.write() as txn:
        txn.upsert(ENDPOINT_OBJECTS, EndpointObject("shop", "api", 3, 701, "n2", "172.30.0.2", ("10.0.1.9",)))
    agent.ask("k8s:n=700")
    agent.ask("k8s:n=701")
    requests = agent.db.table(IDENTITY_REQUESTS)
    async with running(agent):
        await requests.wait_done(("k8s:n=700",), 10)
        await requests.wait_done(("k8s:n=701",), 10)
    with store.transaction() as txn:
        begun = {n: heartbeat_ns(txn.get("CiliumIdentity", str(n)).document) for n in (700, 701)}
    assert begun[700] > 5_000_000_000
    assert begun[701] == 5_000_000_000, "an endpoint says so already"


async def test_when_all_are_taken_those_who_have_one_keep_it_and_who_asks_is_told(store, monkeypatch):
    monkeypatch.setattr("ciliumpy.identity.allocate.LAST_ALLOCATED", 257)
    agent = Agent(store)
    agent.ask("k8s:n=0")
    agent.ask("k8s:n=1")
    requests = agent.db.table(IDENTITY_REQUESTS)
    async with running(agent):
        assert {await agent.numbered("k8s:n=0"), await agent.numbered("k8s:n=1")} == {256, 257}
        agent.ask("k8s:n=2")
        agent.ask("k8s:n=1")
        with pytest.raises(CiliumpyError, match="all 65280 identities of the cluster are in use"):
            await requests.wait_done(("k8s:n=2",), 10)
        assert requests.status(("k8s:n=1",)).state == "done"
        assert agent.number("k8s:n=0") in (256, 257)
        await agent.health.degraded_once.wait()
