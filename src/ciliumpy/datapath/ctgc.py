# SPDX-License-Identifier: Apache-2.0
"""Collects expired conntrack rows: the datapath ignores them already, but their room is wanted back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ciliumpy.bpf.names import CONNTRACK_MAPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ciliumpy.datapath.kernel import KernelMaps
    from ciliumpy.state.jobs import Job

FIRST_INTERVAL_S = 300.0
MIN_INTERVAL_S = 10.0
MAX_INTERVAL_S = 43200.0


class Round(NamedTuple):
    """One walk over the maps."""

    seen: int
    deleted: int


def next_interval(interval_s: float, done: Round) -> float:
    """Return when to walk again: sooner when more than a quarter had expired, later when less than a twentieth had."""
    ratio = done.deleted / done.seen if done.seen else 0.0
    if ratio > 0.25:
        interval_s *= 1 - ratio
    elif ratio < 0.05:
        interval_s *= 1.5
    return min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, interval_s))


class Collector:
    """A job over the conntrack maps. `now` is the datapath's clock: jiffies >> 8, 32 bits, wrapping."""

    def __init__(self, maps: KernelMaps, now: Callable[[], int]) -> None:
        self._maps = [maps[name] for name in CONNTRACK_MAPS]
        self._now = now
        self._entries = {map_.name: 0 for map_ in self._maps}
        self.last = Round(0, 0)
        self.total_deleted = 0

    async def run(self, job: Job) -> None:
        interval_s = FIRST_INTERVAL_S
        while True:
            await asyncio.sleep(interval_s)
            self.last = await asyncio.to_thread(self.collect)
            self.total_deleted += self.last.deleted
            interval_s = next_interval(interval_s, self.last)
            job.ok(f"{self.last.deleted} of {self.last.seen} rows collected, next in {interval_s:.0f} s")

    def entries(self) -> dict[str, int]:
        return dict(self._entries)

    def collect(self) -> Round:
        """Delete what has expired. A row that was renewed between the walk and the deletion is looked at again."""
        seen = deleted = 0
        for map_ in self._maps:
            keys, values = map_.items()
            seen += len(keys)
            self._entries[map_.name] = len(keys)
            late = np.int32(0) > _age(values["expires"], self._now())
            for key in keys[late]:
                raw = map_.lookup_bytes(key.tobytes())
                if raw is None:
                    continue
                row = np.frombuffer(raw, dtype=values.dtype, count=1)
                if _age(row["expires"], self._now())[0] < 0:
                    deleted += map_.delete(key.tobytes())
        return Round(seen, deleted)


def _age(expires: np.ndarray[Any, Any], now: int) -> np.ndarray[Any, Any]:
    """Return how long each still has, as a signed difference: the clock wraps."""
    return (expires.astype(np.uint32) - np.uint32(now)).view(np.int32)
