# SPDX-License-Identifier: Apache-2.0
"""The job that empties the rings: order, losses, wall time, listeners. The rings are a fake with the same contract."""

from __future__ import annotations

import asyncio
import json

import pytest

from ciliumpy.flows import columns, pipeline
from ciliumpy.flows.pipeline import FlowPipeline
from ciliumpy.kit.errors import CiliumpyError
from tests.unit.flows import events
from tests.unit.flows.events import AGGREGATE, ALLOWED, DROP, event
from tests.unit.flows.rings import Loss, Rings

BOOT = 1_700_000_000_000_000_000


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.passed_ns = 5_000

    def now_ns(self) -> int:
        return BOOT + self.passed_ns

    def monotonic_ns(self) -> int:
        return self.passed_ns


@pytest.fixture
async def running():
    rings = Rings()
    clock = Clock()
    made = FlowPipeline(rings, events.cluster(), clock, capacity=100)
    job = asyncio.ensure_future(made.run())
    yield made, rings, clock
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    rings.close()


async def test_records_become_flows_with_wall_time(running):
    made, rings, _ = running
    rings.put(event(ktime=1000, ingress=(7, 0, 0, ALLOWED)), event(AGGREGATE, ktime=1001))
    await made.history.wait(2)
    (rows,) = made.history.spans(0, 3)
    assert rows["time"].tolist() == [BOOT + 1000, BOOT + 1000, BOOT + 1001]
    assert rows["event_type"].tolist() == [5, 4, 4]
    assert made.events == 2
    assert made.history.names.parties[int(rows["src_party"][0])].pod == "frontend-1"


async def test_a_full_ring_wakes_the_reader_at_once(running, monkeypatch):
    made, rings, _ = running
    await asyncio.sleep(0.02)  # it has found nothing, and now waits
    monkeypatch.setattr(pipeline, "IDLE_S", 3600.0)
    rings.put(event())
    await made.history.wait(0)
    await asyncio.sleep(0.05)  # longer than it waits while busy: from here on only a wake-up helps
    rings.put(event())
    async with asyncio.timeout(5):
        await made.history.wait(1)


async def test_what_fills_a_ring_while_others_are_stored_is_read_without_a_pause(monkeypatch):
    monkeypatch.setattr(pipeline, "IDLE_S", 3600.0)
    monkeypatch.setattr(pipeline, "BUSY_S", 3600.0)
    rings = Rings()
    made = FlowPipeline(rings, events.cluster(), Clock(), capacity=100)
    take = made.take

    async def take_slowly(records, losses):
        await take(records, losses)
        if made.events == 1:
            rings.put(event(AGGREGATE))  # the kernel goes on meanwhile, and wakes
            await asyncio.sleep(0.05)

    monkeypatch.setattr(made, "take", take_slowly)
    rings.put(event(AGGREGATE))
    job = asyncio.ensure_future(made.run())
    try:
        async with asyncio.timeout(5):
            await made.history.wait(1)
    finally:
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        rings.close()


async def test_a_loss_stands_before_the_record_that_showed_it(running):
    made, rings, _ = running
    some = [event(AGGREGATE, ktime=time) for time in (100, 200, 300)]
    rings.put(*some, losses=[Loss(1, 7, 40, 200)])
    await made.history.wait(3)
    (rows,) = made.history.spans(0, 4)
    assert rows["event_type"].tolist() == [4, columns.LOST, 4, 4]
    assert rows["time"].tolist() == [BOOT + time for time in (100, 200, 200, 300)]
    assert made.history.lost == 40
    rings.put(losses=[Loss(1, 8, 2, 400)])
    await made.history.wait(4)
    assert made.history.lost == 42


async def test_more_than_a_slice_comes_in_order(running, monkeypatch):
    monkeypatch.setattr(pipeline, "SLICE", 3)
    made, rings, _ = running
    rings.put(*[event(AGGREGATE, ktime=time) for time in range(20)], losses=[Loss(0, 1, 5, 4), Loss(0, 2, 6, 30)])
    await made.history.wait(21)
    times = [int(time) - BOOT for span in made.history.spans(0, 22) for time in span["time"]]
    assert times == [*range(5), 4, *range(5, 20), 30]


async def test_the_rate_is_that_of_the_last_minute(running):
    made, rings, clock = running
    rings.put(*[event(AGGREGATE)] * 60)
    await made.history.wait(59)
    clock.passed_ns += 30_000_000_000
    assert made.rate == pytest.approx(2.0, abs=0.01)


async def test_listeners_get_events_as_they_come_of_the_types_they_want(running):
    made, rings, _ = running
    drops = made.monitor(frozenset({"drop"}))
    everything = made.monitor()
    first = asyncio.ensure_future(anext(drops)), asyncio.ensure_future(anext(everything))
    await asyncio.sleep(0)
    rings.put(event(AGGREGATE), event(DROP, reason=133))
    assert json.loads(await first[0])["reason"] == "Policy denied"
    assert json.loads(await first[1])["type"] == "trace"
    assert json.loads(await anext(everything))["type"] == "drop"
    await drops.aclose()
    await everything.aclose()
    assert made._listeners == []


async def test_a_type_that_is_none_is_refused_at_once(running):
    made, _, _ = running
    with pytest.raises(CiliumpyError, match="no event type 'drops'"):
        await anext(made.monitor(frozenset({"drops"})))


async def test_a_slow_listener_is_told_what_it_missed(running, monkeypatch):
    monkeypatch.setattr(pipeline, "BACKLOG", 2)
    made, _, _ = running
    listener = made.monitor()
    first = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    rows = made._enricher.rows(event(AGGREGATE), 0)
    for _ in range(5):
        made._tell(len(rows), lambda: rows)
    assert json.loads(await first) == {"type": "lost", "cpu": 0, "lost": 3, "timeNs": 1000}
    assert [json.loads(await anext(listener))["type"] for _ in range(2)] == ["trace", "trace"]
    await listener.aclose()
