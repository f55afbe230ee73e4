# SPDX-License-Identifier: Apache-2.0
"""Jobs: restarted as asked, never silently lost, stopped in order; and the loop's lag."""

from __future__ import annotations

import asyncio
import time

import pytest

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.clock import SystemClock
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.state.lag import LoopLag

QUICK = Backoff(first_s=0.001, most_s=0.001)


@pytest.fixture
def health() -> HealthRegistry:
    return HealthRegistry()


@pytest.fixture
async def jobs(health: HealthRegistry):
    group = JobGroup("agent", health, SystemClock())
    yield group
    await group.stop()


async def test_a_job_that_fails_is_restarted_and_says_so(jobs: JobGroup, health: HealthRegistry) -> None:
    runs = 0
    third = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await asyncio.Event().wait()
        raise CiliumpyError("not yet") if runs == 1 else ValueError("defect")

    job = jobs.start("work", work, backoff=QUICK)
    await third.wait()
    assert job.restarts == 2
    found = health.get("agent/work")
    assert (found.state, found.restarts) == ("ok", 2)


async def test_its_last_error_is_shown_until_it_runs_again(jobs: JobGroup, health: HealthRegistry) -> None:
    async def work() -> None:
        raise ValueError("defect")

    await jobs.start("work", work, restart="never").wait()
    assert health.degraded()[0].message == "ValueError: defect"


@pytest.mark.parametrize(("restart", "runs_wanted"), [("never", 1), ("on-error", 2), ("always", 3)])
async def test_restart_policies(jobs: JobGroup, health: HealthRegistry, restart: str, runs_wanted: int) -> None:
    runs = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            enough.set()
            await asyncio.Event().wait()
        if runs == 1 and restart == "on-error":
            raise ValueError

    job = jobs.start("work", work, restart=restart, backoff=QUICK)
    await (enough.wait() if restart == "always" else job.wait())
    assert runs == runs_wanted
    if restart != "always":
        assert health.get("agent/work").state == "stopped"


async def test_a_job_reports_its_own_health(jobs: JobGroup, health: HealthRegistry) -> None:
    said = asyncio.Event()

    async def work(job) -> None:
        job.degraded("the disk is full")
        said.set()
        await asyncio.Event().wait()

    jobs.start_reporting("work", work)
    await said.wait()
    assert [(h.name, h.state, h.message) for h in health.degraded()] == [("agent/work", "degraded", "the disk is full")]


async def test_the_last_started_is_stopped_first(health: HealthRegistry) -> None:
    group = JobGroup("", health, SystemClock())
    ended = []
    ready = asyncio.Barrier(4)

    def work(name: str):
        async def run() -> None:
            await ready.wait()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(name)

        return run

    for name in ("one", "two", "three"):
        group.start(name, work(name))
    await ready.wait()
    with pytest.raises(ValueError, match="running already"):
        group.start("one", work("one"))
    await group.stop()
    assert ended == ["three", "two", "one"]
    assert {h.state for h in health.all()} == {"stopped"}
    assert group.jobs == ()


async def test_loop_lag_sees_a_blocked_loop(jobs: JobGroup) -> None:
    blocked = asyncio.Event()

    class Watched(LoopLag):
        def add(self, late_s: float) -> None:
            super().add(late_s)
            if late_s > 0.04:
                blocked.set()

    lag = Watched(interval_s=0.001)
    assert lag.lag() == (0, 0, 0)
    jobs.start("lag", lag.run)
    asyncio.get_running_loop().call_later(0.01, time.sleep, 0.05)
    await blocked.wait()
    assert lag.lag().max > 40
    assert sum(late > 0.02 for late in lag._samples) >= 20, "the samples that could not be taken count too"


def test_percentiles() -> None:
    lag = LoopLag(interval_s=10, kept=100)
    for n in range(1, 201):
        lag.add(n / 1000)
    assert lag.lag() == (pytest.approx(151, abs=1), pytest.approx(199, abs=1), 200)


async def test_a_job_that_becomes_unwell_and_well_again_is_logged_once_each(
    jobs: JobGroup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job = jobs.start("work", asyncio.Event().wait)
    for report in (lambda: job.degraded("no disk"), job.ok):
        for _ in range(3):
            report()
    assert caplog.messages == ["job agent/work: no disk", "job agent/work: well again"]
