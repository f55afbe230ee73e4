# SPDX-License-Identifier: Apache-2.0
"""The last so many flows: a ring of column blocks.

A position counts rows since the start and is never reused. Rows are appended and never changed, so a reader may keep
the arrays that it was given while writing goes on. Blocks are allocated as they fill. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.flows.columns import FLOW, LOST, Rows
from ciliumpy.flows.names import Names, Party

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096
SWEEP_EVERY = 16  # blocks that have gone


class History:
    """Keeps the newest `capacity` rows, readable by position."""

    def __init__(self, capacity: int = 65536, *, block: int = BLOCK) -> None:
        self.capacity = capacity
        self.names = Names()
        self.lost = 0
        """Event records that the kernel could not deliver, since the start."""
        self._size = min(block, capacity)
        self._blocks: deque[Rows] = deque()
        self._first = 0  # position of the first row of the first block
        self._end = 0
        self._gone = 0
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def end(self) -> int:
        """Position after the newest row; also the number of rows ever seen."""
        return self._end

    @property
    def start(self) -> int:
        """Position of the oldest row that can be read."""
        return max(0, self._end - self.capacity)

    def __len__(self) -> int:
        return self._end - self.start

    @property
    def memory(self) -> int:
        """Bytes held by the blocks."""
        return sum(block.nbytes for block in self._blocks)

    def append(self, rows: Rows) -> None:
        """Take rows of dtype FLOW, oldest first, and wake who follows."""
        if not len(rows):
            return
        self.lost += int(rows["ktime"][rows["event_type"] == LOST].sum())
        taken = 0
        while taken < len(rows):
            used = (self._end - self._first) - (len(self._blocks) - 1) * self._size if self._blocks else self._size
            if used == self._size:
                self._blocks.append(np.empty(self._size, FLOW))
                used = 0
            count = min(self._size - used, len(rows) - taken)
            self._blocks[-1][used : used + count] = rows[taken : taken + count]
            taken += count
            self._end += count
        self._forget()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def spans(self, start: int, end: int) -> list[Rows]:
        """Return the rows from position `start` to before `end`, oldest first, in arrays that stay as they are."""
        position = max(start, self.start)
        end = min(end, self._end)
        spans = []
        while position < end:
            number, offset = divmod(position - self._first, self._size)
            count = min(self._size - offset, end - position)
            spans.append(self._blocks[number][offset : offset + count])
            position += count
        return spans

    def spans_backwards(self) -> Iterator[tuple[int, Rows]]:
        """Yield position and rows of each block, the newest block first, rows within it oldest first."""
        end, oldest = self._end, self.start
        for number in range(len(self._blocks) - 1, -1, -1):
            first = self._first + number * self._size
            low, high = max(first, oldest), min(first + self._size, end)
            if high > low:
                yield low, self._blocks[number][low - first : high - first]

    def parties(self, since_ns: int) -> list[Party]:
        """Return who stood at either end of a flow since then (wall clock)."""
        found: set[int] = set()
        for _, rows in self.spans_backwards():
            recent = rows[rows["time"] >= since_ns]
            found.update(np.unique(recent["src_party"]).tolist(), np.unique(recent["dst_party"]).tolist())
            if len(recent) < len(rows):
                break
        return [self.names.parties[number] for number in sorted(found)]

    async def wait(self, position: int) -> None:
        """Wait until there is a row at `position`."""
        while self._end <= position:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:  # who waited has gone
                    self._waiters.remove(waiter)

    def _forget(self) -> None:
        """Let go of blocks that nothing can be read from, and now and then of the names only they used."""
        while self._blocks and self._first + self._size <= self.start:
            self._blocks.popleft()
            self._first += self._size
            self._gone += 1
        if self._gone >= SWEEP_EVERY:
            self._gone = 0
            self.names.sweep(self._used("src_party", "dst_party"), self._used("egress_rules", "ingress_rules"))

    def _used(self, *columns: str) -> set[int]:
        spans = self.spans(self.start, self._end)
        return {number for span in spans for column in columns for number in np.unique(span[column]).tolist()}
