# SPDX-License-Identifier: Apache-2.0
"""Many identities that nobody uses go a batch at a time: neither the loop nor the store's lock is held long."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ciliumpy.identity import collect
from ciliumpy.identity.allocate import document
from tests.unit.identity.test_collect import DAY_S, Agent, labels

COUNT = 500
LATE = 60_000


async def test_no_lock_is_held_for_more_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(tmp_path / "store", range(256, 257 + COUNT))
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    held: list[float] = []
    deleted: list[int] = []
    transaction = agent.store.transaction

    @contextmanager
    def timed():
        with transaction() as txn:
            began, before = time.thread_time(), len(txn.names("CiliumIdentity"))
            yield txn
            held.append(time.thread_time() - began)
            deleted.append(before - len(txn.names("CiliumIdentity")))
        loop.call_soon_threadsafe(begun.set)

    def create() -> None:
        with transaction() as txn:
            txn.create(document(LATE, labels(LATE), agent.clock.now_ns()))
            left.append(len(txn.names("CiliumIdentity")))

    async def another() -> None:
        await begun.wait()
        await asyncio.to_thread(create)

    async def lag() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            lags.append(time.monotonic() - began)

    left: list[int] = []
    lags: list[float] = []
    monkeypatch.setattr(agent.store, "transaction", timed)
    await agent.collector.round()
    agent.clock.advance(2 * DAY_S)
    other, watch = asyncio.create_task(another()), asyncio.create_task(lag())
    assert await agent.collector.round() == COUNT
    await other
    watch.cancel()
    assert deleted == [collect.BATCH] * (COUNT // collect.BATCH)
    assert left[0] > collect.BATCH, "who wants the lock meanwhile gets it between two batches"
    assert max(held) < 1.0, "of the processor, for one batch"
    assert max(lags) < 2.0, "the loop goes on"
    assert LATE in agent.left()
