# SPDX-License-Identifier: Apache-2.0
"""Time as a value that is handed in, so that tests own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a part gets the time from."""

    def now_ns(self) -> int:
        """Return wall time, nanoseconds since 1970, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, the clock of the datapath's `ktime`, in nanoseconds."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
