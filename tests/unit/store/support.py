# SPDX-License-Identifier: Apache-2.0
"""A folder, who follows it, and objects to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ciliumpy.kit.clock import SystemClock
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.state.observer import wait_any
from ciliumpy.store.directory.store import DirectoryStore
from ciliumpy.store.interface import StoreState
from ciliumpy.store.last_good import LastGood
from ciliumpy.store.reflector import Reflector
from ciliumpy.tables import source

SPECS = (
    source.PODS,
    source.NAMESPACES,
    source.POLICIES,
    source.NODES,
    source.IDENTITY_OBJECTS,
    source.ENDPOINT_OBJECTS,
    source.PROBLEMS,
)
WITHIN_S = 10


def policy(name: str, app: str = "api", port: str = "8080") -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": app}},
            "ingress": [{"toPorts": [{"ports": [{"port": port, "protocol": "TCP"}]}]}],
        },
    }


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": name}, "spec": {}}


def identity(number: int, *labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumIdentity",
        "metadata": {"name": str(number)},
        "security-labels": dict(label.split("=") for label in labels),
    }


class Follower:
    """What a watch has told so far: documents by file name below the root; None where it is a fault."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, list[Any] | None] = {}
        self.faults: dict[str, str] = {}
        self.gone: list[str] = []
        self.reads: list[str] = []
        self.state = StoreState("starting")
        self.synced = False
        self._told = asyncio.Event()

    async def follow(self) -> None:
        async for batch in DirectoryStore(self.root).watch():
            self.state, self.synced = batch.state, batch.synced
            for read in batch.reads:
                name = str(Path(read.origin).relative_to(self.root))
                self.reads.append(name)
                self.faults.pop(name, None)
                if read.gone:
                    self.files.pop(name, None)
                    self.gone.append(name)
                elif read.fault is not None:
                    self.faults[name] = read.fault.message
                else:
                    self.files[name] = [document.value for document in read.documents or ()]
            self._told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                self._told.clear()
                await self._told.wait()


@asynccontextmanager
async def following(root: Path, *, synced: bool = True) -> AsyncIterator[Follower]:
    jobs = JobGroup("", HealthRegistry(), SystemClock())
    follower = Follower(root)
    jobs.start("follow", follower.follow, restart="never")
    try:
        if synced:
            await follower.until(lambda: follower.synced)
        yield follower
    finally:
        await jobs.stop()


class Agent:
    """The store's part of an agent: the tables as the reflector fills them."""

    def __init__(self, root: Path, state: Path) -> None:
        self.root = root
        self.store = DirectoryStore(root)
        self.db = Database(SPECS)
        self.health = HealthRegistry()
        self.last_good = LastGood(state / "last-good")
        self.reflector = Reflector(self.db, self.store, self.last_good)
        self.policies = self.db.table(source.POLICIES)
        self.problems = self.db.table(source.PROBLEMS)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the tables, or the health of the store, are so."""
        observers = [table.observe("test") for table in self.db.tables.values()]
        try:
            async with asyncio.timeout(WITHIN_S):
                while not condition():
                    for observer in observers:
                        observer.take()
                    await wait_any(*observers, timeout_s=0.05)
        finally:
            for observer in observers:
                observer.close()

    def errors(self) -> list[source.Problem]:
        return [problem for problem in self.problems.all() if problem.severity == "error"]

    def names(self) -> dict[str, bool]:
        """Policies in force: name -> stale."""
        return {row.name: row.stale for row in sorted(self.policies.all(), key=lambda row: row.name)}


@asynccontextmanager
async def agent(root: Path, state: Path, *, synced: bool = True) -> AsyncIterator[Agent]:
    """An agent that ends with the block; another one with the same state folder is its restart."""
    running = Agent(root, state)
    jobs = JobGroup("", running.health, SystemClock())
    jobs.start_reporting("store", running.reflector.run)
    jobs.start("last-good", running.reflector.keep)
    try:
        if synced:
            async with asyncio.timeout(WITHIN_S):
                await running.reflector.synced.wait()
        yield running
    finally:
        await jobs.stop()
        running.last_good.close()
