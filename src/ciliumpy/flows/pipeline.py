# SPDX-License-Identifier: Apache-2.0
"""The job that empties the event rings: wall time, names, history, and who listens to the events themselves.

A thread reads the rings every 50 ms, every 20 ms while something comes, and at once when one fills up; everything else
happens in the event loop, in slices. Losses are rows of the history, where they happened.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ciliumpy.flows import columns
from ciliumpy.flows.enrich import Enricher
from ciliumpy.flows.history import History
from ciliumpy.flows.monitor import records
from ciliumpy.flows.monitor_text import check_types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ciliumpy.flows.columns import Rows
    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.database import Database

IDLE_S = 0.05
BUSY_S = 0.02
SLICE = 4096  # records that get their names before other jobs have their turn: about 1 ms
FEW = 64  # records that become rows at once
BACKLOG = 256  # blocks that a listener may be behind
RATE_S = 60


class Loss(Protocol):
    """Records of a CPU that are missing before the one made at `ktime`."""

    @property
    def cpu(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def ktime(self) -> int: ...


class Rings(Protocol):
    """Where records come from: bpf.ring.RingGroup."""

    @property
    def filenos(self) -> tuple[int, ...]: ...
    def consume(self) -> Any:
        """Return all complete records, sorted by ktime."""
        ...

    def take_losses(self) -> Sequence[Loss]: ...


class FlowPipeline:
    """Records in, history out. `run` is the job; everything else belongs to its event loop."""

    def __init__(self, rings: Rings, db: Database, clock: Clock, capacity: int = 65536) -> None:
        self.history = History(capacity)
        self.events = 0
        """Records read since the start."""
        self._rings = rings
        self._clock = clock
        self._enricher = Enricher(db, self.history.names)
        self._listeners: list[_Listener] = []
        self._samples: deque[tuple[int, int]] = deque([(clock.monotonic_ns(), 0)])

    @property
    def rate(self) -> float:
        """Flows a second, over the last minute."""
        then, seen = self._samples[0]
        passed = (self._clock.monotonic_ns() - then) / 1e9
        return (self.history.end - seen) / passed if passed > 0 else 0.0

    async def run(self) -> None:
        """Read until cancelled. Close the rings only after this has ended."""
        loop = asyncio.get_running_loop()
        wake = asyncio.Event()
        # Edge-triggered, so that a full ring wakes us once, not in every turn of the loop until it is read.
        with select.epoll() as full, ThreadPoolExecutor(1, "event-rings") as reader:
            for fd in self._rings.filenos:
                full.register(fd, select.EPOLLIN | select.EPOLLET)

            def woken() -> None:
                full.poll(0)
                wake.set()

            loop.add_reader(full.fileno(), woken)
            try:
                while True:
                    wake.clear()  # before the reading: what fills a ring meanwhile is read at once, without a pause
                    events, losses = await loop.run_in_executor(reader, self.read)
                    await self.take(events, losses)
                    self._sample()
                    try:
                        async with asyncio.timeout(BUSY_S if len(events) else IDLE_S):
                            await wake.wait()
                    except TimeoutError:
                        pass
            finally:
                loop.remove_reader(full.fileno())

    async def monitor(self, types: frozenset[str] = frozenset()) -> AsyncIterator[bytes]:
        """Yield events as they come, each a JSON object; who is too slow gets a record of type `lost`."""
        check_types(types)
        listener = _Listener()
        self._listeners.append(listener)
        try:
            while True:
                rows = await listener.next()
                for record in records(rows, self.history.names, types):
                    yield json.dumps(record, separators=(",", ":")).encode()
        finally:
            self._listeners.remove(listener)

    def read(self) -> tuple[Rows, Sequence[Loss]]:
        """Return what the rings have, and what they lost. In a thread: the rings are nobody else's."""
        return self._rings.consume(), self._rings.take_losses()

    async def take(self, events: Rows, losses: Sequence[Loss]) -> None:
        """Put records into the history, each loss where it happened."""
        offset = self._clock.now_ns() - self._clock.monotonic_ns()
        self.events += len(events)
        begin = 0
        # A gap is found together with the record after it: put it there.
        for loss in sorted(losses, key=lambda loss: loss.ktime):
            place = int(np.searchsorted(events["ktime"], loss.ktime))
            await self._store(events[begin:place], offset)
            missing = columns.loss(loss.ktime + offset, loss.lost, columns.LOST_IN_KERNEL, loss.cpu)
            self.history.append(missing)
            self._tell(len(missing), lambda missing=missing: missing)  # type: ignore[misc]
            begin = place
        await self._store(events[begin:], offset)

    async def _store(self, events: Rows, offset: int) -> None:
        for start in range(0, len(events), SLICE):
            batch = self._enricher.batch(events[start : start + SLICE], offset)
            if len(batch.events) <= FEW:
                rows = batch.expand()
                self.history.append(rows)
                self._tell(len(rows), lambda rows=rows: rows)  # type: ignore[misc]
            else:
                block = self.history.append_batch(batch)
                self._tell(block.count, block.rows)
            await asyncio.sleep(0)

    def _tell(self, count: int, make: Callable[[], Rows]) -> None:
        for listener in self._listeners:
            listener.put(count, make)

    def _sample(self) -> None:
        now = self._clock.monotonic_ns()
        if now - self._samples[-1][0] >= 1_000_000_000:
            self._samples.append((now, self.history.end))
            while now - self._samples[0][0] > RATE_S * 1_000_000_000:
                self._samples.popleft()


class _Listener:
    """The blocks that one listener has still to see, up to a limit."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, Callable[[], Rows]]] = deque()
        self._lost = 0
        self._ready = asyncio.Event()

    def put(self, count: int, make: Callable[[], Rows]) -> None:
        """Take `count` rows, which `make` will give."""
        if len(self._blocks) == BACKLOG:
            self._lost += self._blocks.popleft()[0]
        self._blocks.append((count, make))
        self._ready.set()

    async def next(self) -> Rows:
        while not self._blocks:
            self._ready.clear()
            await self._ready.wait()
        rows = self._blocks.popleft()[1]()
        if self._lost:
            missing = columns.loss(int(rows["time"][0]) if len(rows) else 0, self._lost, columns.LOST_IN_HISTORY)
            self._lost = 0
            return np.concatenate([missing, rows])
        return rows
