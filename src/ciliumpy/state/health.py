# SPDX-License-Identifier: Apache-2.0
"""What each job says of itself, in one place for `status`."""

from __future__ import annotations

from typing import Literal

import msgspec

HealthState = Literal["ok", "degraded", "stopped"]


class JobHealth(msgspec.Struct, frozen=True):
    name: str
    state: HealthState
    message: str
    restarts: int
    since_ns: int  # wall clock, of the last change of state


class HealthRegistry:
    """The health of all jobs of a process, by name."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobHealth] = {}

    def report(self, name: str, state: HealthState, message: str, restarts: int, at_ns: int) -> None:
        old = self._jobs.get(name)
        since_ns = old.since_ns if old is not None and old.state == state else at_ns
        self._jobs[name] = JobHealth(name, state, message, restarts, since_ns)

    def get(self, name: str) -> JobHealth | None:
        return self._jobs.get(name)

    def all(self) -> list[JobHealth]:
        """Return the health of every job, sorted by name."""
        return sorted(self._jobs.values(), key=lambda health: health.name)

    def degraded(self) -> list[JobHealth]:
        """Return the jobs that are not well, sorted by name."""
        return [health for health in self.all() if health.state == "degraded"]
