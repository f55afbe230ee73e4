# SPDX-License-Identifier: Apache-2.0
"""Jobs: the only place that makes tasks. Each has a name, a restart policy and health; a group ends as one."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.health import HealthRegistry, HealthState

Restart = Literal["always", "on-error", "never"]
RESTART_BACKOFF = Backoff(first_s=0.2, most_s=30.0)
WELL_AFTER_NS = 60_000_000_000  # a job that ran for so long begins its back-off anew

_log = logging.getLogger(__name__)


class Job:
    """A coroutine that is kept running. It says how it is by `ok` and `degraded`."""

    def __init__(self, name: str, health: HealthRegistry, clock: Clock) -> None:
        self.name = name
        self.restarts = 0
        self._health = health
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def ok(self, message: str = "") -> None:
        if self._is_degraded():
            _log.info("job %s: well again", self.name)
        self._report("ok", message)

    def degraded(self, message: str) -> None:
        if not self._is_degraded():
            _log.warning("job %s: %s", self.name, message)
        self._report("degraded", message)

    def _is_degraded(self) -> bool:
        health = self._health.get(self.name)
        return health is not None and health.state == "degraded"

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def wait(self) -> None:
        """Wait until the job has ended for good. An error of it is in its health, it is not raised here."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Cancel the job and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await self.wait()

    def _report(self, state: HealthState, message: str) -> None:
        self._health.report(self.name, state, message, self.restarts, self._clock.now_ns())

    async def _keep(self, run: Callable[[], Awaitable[None]], restart: Restart, backoff: Backoff) -> None:
        failures = 0
        try:
            while True:
                self._report("ok", "")
                began_ns = self._clock.monotonic_ns()
                failed = False
                try:
                    await run()
                except CiliumpyError as error:
                    failed = True
                    self._report("degraded", error.message)
                    _log.warning("job %s: %s", self.name, error.message)
                except Exception as error:  # noqa: BLE001 - a defect in one job must not end the others
                    failed = True
                    self._report("degraded", f"{type(error).__name__}: {error}")
                    _log.exception("job %s failed", self.name)
                if restart == "never" or (restart == "on-error" and not failed):
                    if not failed:
                        self._report("stopped", "finished")
                    return
                if self._clock.monotonic_ns() - began_ns > WELL_AFTER_NS:
                    failures = 0
                failures += 1
                await asyncio.sleep(backoff.delay_s(failures))
                self.restarts += 1
        except asyncio.CancelledError:
            self._report("stopped", "")
            raise


class JobGroup:
    """Jobs that start one by one and are stopped together, the last started first."""

    def __init__(self, name: str, health: HealthRegistry, clock: Clock) -> None:
        self.name = name
        self._health = health
        self._clock = clock
        self._jobs: list[Job] = []
        self._stopping = False

    def start(
        self,
        name: str,
        coroutine_function: Callable[[], Awaitable[None]],
        *,
        restart: Restart = "always",
        backoff: Backoff = RESTART_BACKOFF,
    ) -> Job:
        """Start a job called `<group>/<name>` and return it."""
        return self.start_reporting(name, lambda _job: coroutine_function(), restart=restart, backoff=backoff)

    def start_reporting(
        self,
        name: str,
        coroutine_function: Callable[[Job], Awaitable[None]],
        *,
        restart: Restart = "always",
        backoff: Backoff = RESTART_BACKOFF,
    ) -> Job:
        """Start a job whose function is given the job itself, to report its health: `Reconciler.run` for one."""
        if self._stopping:
            raise RuntimeError(f"job group {self.name} is stopping")
        full = f"{self.name}/{name}" if self.name else name
        self._jobs = [job for job in self._jobs if job.running]
        if any(job.name == full for job in self._jobs):
            raise ValueError(f"job {full} is running already")
        job = Job(full, self._health, self._clock)
        keeper = job._keep(lambda: coroutine_function(job), restart, backoff)
        job._task = asyncio.get_running_loop().create_task(keeper, name=full)
        self._jobs.append(job)
        return job

    @property
    def jobs(self) -> tuple[Job, ...]:
        return tuple(self._jobs)

    async def stop(self) -> None:
        """Cancel all jobs, the last started first, each after the one before has ended."""
        self._stopping = True
        try:
            for job in reversed(self._jobs):
                await job.stop()
        finally:
            self._stopping = False
            self._jobs = [job for job in self._jobs if job.running]
