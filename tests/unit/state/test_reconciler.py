# SPDX-License-Identifier: Apache-2.0
"""The reconciler against a kernel that refuses, breaks, drifts and is slow."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.state.reconciler import Reconciler
from tests.soak import scaled
from tests.unit.state.support import ROWS, FakeClock, FakeKernel, Row
from tests.unit.state.target_contract import TargetContract

EXACT = Backoff(first_s=1.0, most_s=8.0, jitter=0.0)


class TestFakeKernel(TargetContract):
    rows = (Row(1, "a"), Row(2, "b"), Row(3, "c"))
    changed = Row(1, "z")

    @pytest.fixture
    def target(self) -> FakeKernel:
        return FakeKernel()

    def held(self, target: FakeKernel) -> tuple[Row, ...]:
        return tuple(target.held[key] for key in sorted(target.held))

    def disturb(self, target: FakeKernel) -> None:
        del target.held[2]
        target.held[9] = Row(9)


class World:
    def __init__(self, **options) -> None:
        self.clock = FakeClock()
        self.db = Database([ROWS], clock=self.clock)
        self.table = self.db.table(ROWS)
        self.kernel = FakeKernel()
        options = {"backoff": EXACT, "prune_interval_s": 100.0} | options
        self.reconciler = Reconciler(self.db, ROWS, self.kernel, clock=self.clock, **options)
        self.counters = self.reconciler.counters

    def put(self, *rows: Row) -> None:
        with self.db.write() as txn:
            for row in rows:
                txn.upsert(ROWS, row)

    def drop(self, *keys: int) -> None:
        with self.db.write() as txn:
            for key in keys:
                txn.delete(ROWS, key)

    def states(self) -> dict[int, str]:
        return {row.id: self.table.status(row.id).state for row in self.table.all()}


async def test_rows_are_carried_over_in_batches() -> None:
    world = World(batch=2)
    world.put(*(Row(n) for n in range(5)))
    await world.reconciler.round()
    assert [call for call in world.kernel.calls if call[0] == "update"] == [
        ("update", (0, 1)),
        ("update", (2, 3)),
        ("update", (4,)),
    ]
    assert set(world.states().values()) == {"done"}
    assert world.reconciler.synced.is_set()
    world.kernel.calls.clear()
    await world.reconciler.round()
    assert world.kernel.calls == [], "nothing changed: nothing is done"


async def test_deletions_go_first() -> None:
    world = World()
    world.put(Row(1))
    await world.reconciler.round()
    world.kernel.calls.clear()
    world.put(Row(2))
    world.drop(1)
    await world.reconciler.round()
    assert world.kernel.calls == [("delete", (1,)), ("update", (2,))]
    assert world.kernel.held == {2: Row(2)}


async def test_a_row_that_fails_is_tried_again_later_and_later() -> None:
    world = World()
    world.kernel.refuse = {1}
    world.put(Row(1), Row(2))
    await world.reconciler.round()
    assert world.states() == {1: "error", 2: "done"}
    assert world.table.status(1).error == "no room"
    attempts = []
    for second in range(1, 20):
        world.clock.advance(1)
        world.kernel.calls.clear()
        await world.reconciler.round()
        if ("update", (1,)) in world.kernel.calls:
            attempts.append(second)
    assert attempts == [1, 3, 7, 15], "1, 2, 4, 8 seconds after one another"
    world.kernel.refuse.clear()
    world.clock.advance(8)
    await world.reconciler.round()
    assert world.states() == {1: "done", 2: "done"}
    assert world.counters.failures == 5
    assert world.counters.retries == 5


async def test_a_change_does_not_wait_for_the_back_off() -> None:
    world = World()
    world.kernel.refuse = {1}
    world.put(Row(1, "a"))
    await world.reconciler.round()
    world.kernel.refuse.clear()
    world.put(Row(1, "b"))
    await world.reconciler.round()
    assert world.kernel.held[1] == Row(1, "b")
    assert world.states() == {1: "done"}


async def test_a_deletion_that_fails_is_tried_again_unless_the_row_is_back() -> None:
    world = World()
    world.put(Row(1, "a"), Row(2, "a"))
    await world.reconciler.round()
    world.kernel.refuse = {1, 2}
    world.drop(1, 2)
    await world.reconciler.round()
    assert set(world.kernel.held) == {1, 2}
    world.kernel.refuse.clear()
    world.put(Row(2, "b"))
    await world.reconciler.round()
    world.clock.advance(5)
    await world.reconciler.round()
    assert world.kernel.held == {2: Row(2, "b")}


async def test_who_waits_for_a_deletion_is_told_when_it_is_carried_over() -> None:
    world = World()
    world.put(Row(1, "a"))
    world.drop(1)
    world.put(Row(1, "a"), Row(2, "b"))
    await world.reconciler.round()
    await world.table.wait_gone(9, 0.0)
    assert not world.table.leaving, "a row that went before the first round was never there"
    world.kernel.refuse = {1}
    world.drop(1)
    await world.reconciler.round()
    assert world.table.leaving
    with pytest.raises(CiliumpyError, match="rows 1: not gone after 0 s"):
        await world.table.wait_gone(1, 0.0)
    world.kernel.refuse.clear()
    world.clock.advance(1.0)
    waiting = asyncio.create_task(world.table.wait_gone(1, 5.0))
    await world.reconciler.round()
    await waiting
    assert not world.table.leaving
    world.drop(2)
    world.put(Row(2, "b"))
    assert not world.table.leaving, "it is not to go any more"
    with pytest.raises(CiliumpyError, match="it is there again"):
        await world.table.wait_gone(2, 0.0)


async def test_a_target_that_raises_fails_the_batch_and_not_the_job() -> None:
    world = World()
    world.kernel.broken = CiliumpyError("the map is gone")
    world.put(Row(1), Row(2))
    await world.reconciler.round()
    assert world.table.status(1).error == "the map is gone"
    assert not world.reconciler.synced.is_set()
    world.kernel.broken = None
    world.clock.advance(60)
    await world.reconciler.round()
    assert world.states() == {1: "done", 2: "done"}
    assert world.reconciler.synced.is_set()


async def test_drift_is_found_on_the_timer_and_repaired() -> None:
    world = World()
    world.put(Row(1), Row(2))
    await world.reconciler.round()
    world.kernel.held = {2: Row(2, "other"), 7: Row(7)}
    await world.reconciler.round()
    assert 7 in world.kernel.held, "not yet time"
    world.clock.advance(100)
    await world.reconciler.round()
    assert world.kernel.held == {1: Row(1), 2: Row(2)}
    assert world.counters.repairs == 3
    assert world.counters.prunes == 2


async def test_an_incomplete_table_prunes_nothing() -> None:
    world = World(hold_prune=True)
    world.kernel.held = {5: Row(5)}
    world.put(Row(1))
    world.clock.advance(1000)
    await world.reconciler.round()
    assert world.kernel.held == {1: Row(1), 5: Row(5)}
    assert not world.reconciler.synced.is_set()
    world.reconciler.allow_prune()
    await world.reconciler.round()
    assert world.kernel.held == {1: Row(1)}
    assert world.reconciler.synced.is_set()


async def test_the_result_of_a_row_that_changed_meanwhile_is_dropped() -> None:
    world = World()
    inside, go_on = asyncio.Event(), asyncio.Event()
    update = world.kernel.update

    async def slow(rows):
        inside.set()
        await go_on.wait()
        return await update(rows)

    world.kernel.update = slow
    world.put(Row(1, "a"))
    running = asyncio.get_running_loop().create_task(world.reconciler.round())
    await inside.wait()
    world.put(Row(1, "b"))
    go_on.set()
    await running
    assert world.states() == {1: "pending"}, "what is done is the row as it was"
    assert world.counters.stale == 1
    await world.reconciler.round()
    assert world.states() == {1: "done"}
    assert world.kernel.held == {1: Row(1, "b")}


async def test_run_follows_the_table_and_reports() -> None:
    world = World(hold_prune=True)
    health = HealthRegistry()
    jobs = JobGroup("", health, world.clock)
    jobs.start_reporting("rows", world.reconciler.run)
    try:
        world.put(Row(1))
        await world.table.wait_done(1, 5)
        world.reconciler.allow_prune()
        await asyncio.wait_for(world.reconciler.synced.wait(), 5)
        world.kernel.refuse = {2}
        world.put(Row(2))
        with pytest.raises(CiliumpyError, match="no room"):
            await world.table.wait_done(2, 5)
        await asyncio.sleep(0)
        assert health.degraded()[0].message == "1 of 2 rows fail, first 2: no room"
    finally:
        await jobs.stop()
    world.reconciler.close()


step = st.one_of(
    st.builds(Row, id=st.integers(0, 3), value=st.sampled_from("ab")),
    st.integers(0, 3),
    st.sets(st.integers(0, 3)),
    st.sampled_from([0.5, 2.0, 30.0, 200.0]),
    st.booleans(),
)


@settings(max_examples=scaled(150), deadline=None)
@given(steps=st.lists(step, max_size=25))
async def test_whatever_happens_the_kernel_ends_up_equal(steps) -> None:
    world = World(batch=2)
    for action in steps:
        if isinstance(action, Row):
            world.put(action)
        elif isinstance(action, bool):
            world.kernel.broken = OSError("down") if action else None
        elif isinstance(action, int):
            world.drop(action)
        elif isinstance(action, set):
            world.kernel.refuse = action
        else:
            world.clock.advance(action)
            await world.reconciler.round()
    world.kernel.refuse, world.kernel.broken = set(), None
    for _ in range(2):
        world.clock.advance(200)
        await world.reconciler.round()
    assert world.kernel.held == {row.id: row for row in world.table.all()}
    assert set(world.states().values()) <= {"done"}
