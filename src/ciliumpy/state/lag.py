# SPDX-License-Identifier: Apache-2.0
"""How late the event loop runs what is due: the price that every job pays for the slices of the others."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

INTERVAL_S = 0.02
KEPT = 3000  # samples: one minute


class Lag(NamedTuple):
    """Milliseconds, over the last minute."""

    p50: float
    p99: float
    max: float


class LoopLag:
    """A job that sleeps for 20 ms and measures by how much it woke too late."""

    def __init__(self, interval_s: float = INTERVAL_S, kept: int = KEPT) -> None:
        self._interval_s = interval_s
        self._samples: deque[float] = deque(maxlen=kept)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self.add(loop.time() - due)

    def add(self, late_s: float) -> None:
        """Record one sample, and those that could not be taken while the loop was blocked: they were late as well."""
        while late_s > 0:
            self._samples.append(late_s)
            late_s -= self._interval_s

    def lag(self) -> Lag:
        """Return the percentiles; zeros before the first sample."""
        samples = sorted(self._samples)
        if not samples:
            return Lag(0.0, 0.0, 0.0)
        last = len(samples) - 1
        p50, p99, most = (round(samples[round(last * part)] * 1000, 2) for part in (0.5, 0.99, 1.0))
        return Lag(p50, p99, most)
