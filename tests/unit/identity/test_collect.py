# SPDX-License-Identifier: Apache-2.0
"""Identities that nobody uses are deleted, and never one that somebody may use."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest

from ciliumpy.endpoints.publish import endpoint_object
from ciliumpy.identity import collect
from ciliumpy.identity.allocate import document
from ciliumpy.identity.collect import Collector
from ciliumpy.identity.controller import _in_store
from ciliumpy.state.database import Database
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.tables.endpoints import Endpoint
from ciliumpy.tables.identities import IDENTITY_REQUESTS, IdentityRequest
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import ENDPOINT_OBJECTS, IDENTITY_OBJECTS, EndpointObject, IdentityObject
from tests.unit.state.support import FakeClock

DAY_S = 86400.0


def labels(number: int) -> tuple[str, ...]:
    return (f"k8s:n={number}",)


class Agent:
    def __init__(self, folder: Path, numbers: range) -> None:
        create_store(folder)
        self.store = DirectoryStore(folder)
        self.clock = FakeClock()
        self.clock.time_ns = int(1000 * DAY_S * 1e9)
        self.db = Database(ALL_TABLES, clock=self.clock)
        self.collector = Collector(self.db, self.store, interval_s=900, timeout_s=1800)
        with self.store.transaction() as store, self.db.write() as txn:
            for number in numbers:
                store.create(document(number, labels(number), 1))
                txn.upsert(IDENTITY_OBJECTS, IdentityObject(number, labels(number)))

    def left(self) -> set[int]:
        with self.store.transaction() as txn:
            return {int(name) for _, name in txn.names("CiliumIdentity")}

    async def after(self, seconds: float) -> set[int]:
        self.clock.advance(seconds)
        await self.collector.round()
        return self.left()


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "store", range(256, 262))


async def test_what_nobody_has_used_for_the_time_goes_and_the_highest_stays(agent: Agent) -> None:
    with agent.db.write() as txn:
        txn.upsert(ENDPOINT_OBJECTS, EndpointObject("shop", "api", 3, 256, "n2", "172.30.0.2", ("10.0.1.9",)))
        txn.upsert(IDENTITY_REQUESTS, IdentityRequest(labels(257)))
    assert await agent.after(0) == set(range(256, 262))
    assert await agent.after(1799) == set(range(256, 262))
    assert await agent.after(1) == {256, 257, 261}


async def test_one_that_was_used_in_between_begins_anew(agent: Agent) -> None:
    await agent.after(0)
    with agent.db.write() as txn:
        txn.upsert(IDENTITY_REQUESTS, IdentityRequest(labels(258)))
    await agent.after(1000)
    with agent.db.write() as txn:
        txn.delete(IDENTITY_REQUESTS, labels(258))
    assert await agent.after(1000) == {258, 261}
    assert await agent.after(1799) == {258, 261}
    assert await agent.after(1) == {261}


async def test_one_that_another_agent_has_just_begun_to_use_stays(agent: Agent) -> None:
    await agent.after(0)
    agent.clock.advance(1800)
    _in_store(agent.store, {labels(259): 259}, {259: labels(259)}, agent.clock.now_ns() - 1_000_000_000)
    await agent.collector.round()
    assert agent.left() == {259, 261}
    assert await agent.after(1798) == {259, 261}
    assert await agent.after(1) == {261}


async def test_nothing_goes_while_there_are_endpoints_that_were_not_read(agent: Agent) -> None:
    await agent.after(0)
    pod = Endpoint(1, 1, "shop", "api", "c", "eth0", "lxc", 9, 2, "", "", ipv4="10.9.9.9", identity=256)
    with agent.store.transaction() as txn:
        txn.create(endpoint_object(pod, "n2", "172.30.0.2"))
    assert await agent.after(DAY_S) == set(range(256, 262))
    with agent.db.write() as txn:
        txn.upsert(ENDPOINT_OBJECTS, EndpointObject("shop", "api", 1, 256, "n2", "172.30.0.2", ("10.9.9.9",)))
    assert await agent.after(0) == {256, 261}


async def test_an_object_with_other_labels_or_of_a_user_stays(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(agent.store.root) / "ciliumidentities"
    with agent.store.transaction() as txn:
        txn.put(document(256, ("k8s:other",), 1))
    (folder / "257.yaml").write_text((folder / "258.yaml").read_text())
    await agent.after(0)
    assert await agent.after(1800) == {256, 257, 261}
    assert "CiliumIdentity 257 stays" in caplog.text


async def test_many_go_in_batches_and_others_have_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(tmp_path / "store", range(256, 256 + 36))
    monkeypatch.setattr(collect, "BATCH", 10)
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append((seconds, len(agent.left())))
        if len(pauses) == 1:
            with agent.db.write() as txn:
                txn.upsert(IDENTITY_REQUESTS, IdentityRequest(labels(270)))

    await agent.after(0)
    monkeypatch.setattr(asyncio, "sleep", pause)
    assert await agent.after(1800) == {270, 291}, "one was taken up between two batches"
    assert pauses == [(collect.PAUSE_S, 26), (collect.PAUSE_S, 17), (collect.PAUSE_S, 7)]


def _allocate(folder: str, seed: int, start, answers) -> None:
    """One of many processes: asks for label sets in an order of its own, one or a few at a time."""
    store = DirectoryStore(folder)
    wanted = [f"k8s:app={(n * 7 + seed * 3) % 20}" for n in range(20)]
    found: dict[str, int] = {}
    start.wait()
    for at in range(0, 20, 1 + seed % 5):
        missing = {(label,): 0 for label in wanted[at : at + 1 + seed % 5]}
        numbers, error = _in_store(store, missing, {}, 1)
        assert error is None
        found |= {label[0]: number for label, number in numbers.items()}
    answers.put(found)


def test_processes_that_race_give_the_same_numbers(tmp_path: Path) -> None:
    create_store(tmp_path / "store")
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    processes = [
        context.Process(target=_allocate, args=(str(tmp_path / "store"), seed, start, answers)) for seed in range(6)
    ]
    for process in processes:
        process.start()
    start.set()
    found = [answers.get(timeout=25) for _ in processes]
    for process in processes:
        process.join(10)
    assert all(each == found[0] for each in found)
    assert sorted(found[0].values()) == list(range(256, 276))
