# SPDX-License-Identifier: Apache-2.0
"""The last so many flows: a ring of blocks of rows.

A position counts rows since the start and is never reused. Rows are appended and never changed, so a reader may keep
the arrays that it was given while writing goes on. What comes in large batches is kept as records, with its names, and
becomes rows when somebody reads it; rows that come few at a time fill blocks. Owned by one event loop.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.flows.columns import FLOW, LOST, Rows, as_bytes
from ciliumpy.flows.names import Names, Party

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ciliumpy.flows.expand import Batch

BLOCK = 4096
SWEEP_EVERY = 16  # blocks that have gone, if there are
SWEEP_FROM = 4096  # names or more


class Block:
    """Rows from position `first` on: an array that fills up, or a batch that will become one."""

    def __init__(self, first: int, rows: Rows, count: int, batch: Batch | None = None) -> None:
        self.first = first
        self.count = count
        self._rows = rows
        self._batch = batch

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def room(self) -> int:
        return 0 if self._batch is not None else len(self._rows) - self.count

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes if self._batch is None else self._batch.events.nbytes

    def make(self) -> bool:
        """Make the rows of a batch; false if they are there."""
        if self._batch is None:
            return False
        self._rows, self._batch = self._batch.expand(), None
        return True

    def rows(self) -> Rows:
        """Return all its rows; of a batch they are made now."""
        self.make()
        return self._rows[: self.count]

    def fill(self, rows: Rows) -> None:
        as_bytes(self._rows)[self.count : self.count + len(rows)] = as_bytes(rows)
        self.count += len(rows)

    def parties(self, since_ns: int = 0) -> set[int]:
        """Return the ids of who stood at either end since then."""
        if self._batch is None:
            recent = self.rows()["time"] >= since_ns
            columns = [self.rows()[f"{side}_party"][recent] for side in ("src", "dst")]
        else:
            recent = self._batch.times() >= since_ns
            columns = [side.party[recent] for side in (self._batch.joined.src, self._batch.joined.dst)]
        return {number for column in columns for number in np.unique(column).tolist()}

    def rules(self) -> set[int]:
        """Return the ids of the policies that decided."""
        if self._batch is None:
            columns = [self.rows()["egress_rules"], self.rows()["ingress_rules"]]
        else:
            columns = [self._batch.joined.egress_rules, self._batch.joined.ingress_rules]
        return {number for column in columns for number in np.unique(column).tolist()}


class History:
    """Keeps the newest `capacity` rows, readable by position."""

    def __init__(self, capacity: int = 65536, *, block: int = BLOCK, sweep_from: int = SWEEP_FROM) -> None:
        self.capacity = capacity
        self.names = Names()
        self.lost = 0
        """Event records that the kernel could not deliver, since the start."""
        self._size = min(block, capacity)
        self._blocks: deque[Block] = deque()
        self._end = 0
        self._gone = 0
        self._sweep_from = self._many_names = sweep_from
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
            if not self._blocks or not self._blocks[-1].room:
                self._blocks.append(Block(self._end, np.empty(self._size, FLOW), 0))
            count = min(self._blocks[-1].room, len(rows) - taken)
            self._blocks[-1].fill(rows[taken : taken + count])
            taken += count
            self._end += count
        self._appended()

    def append_batch(self, batch: Batch) -> Block:
        """Take a batch as it is, for rows that most likely nobody will read. Return the block it makes."""
        block = Block(self._end, np.empty(0, FLOW), batch.count, batch)
        if batch.count:
            self._blocks.append(block)
            self._end += batch.count
            self._appended()
        return block

    def spans(self, start: int, end: int) -> list[Rows]:
        """Return the rows from position `start` to before `end`, oldest first, in arrays that stay as they are."""
        position = max(start, self.start)
        end = min(end, self._end)
        spans = []
        number = bisect_right(self._blocks, position, key=attrgetter("first")) - 1
        while position < end:
            block = self._blocks[number]
            last = min(block.end, end)
            spans.append(block.rows()[position - block.first : last - block.first])
            position = last
            number += 1
        return spans

    def spans_backwards(self) -> Iterator[tuple[int, Rows]]:
        """Yield position and rows of each block, the newest block first, rows within it oldest first."""
        end, oldest = self._end, self.start
        for block in list(self._blocks)[::-1]:
            low, high = max(block.first, oldest), min(block.end, end)
            if high > low:
                yield low, block.rows()[low - block.first : high - block.first]

    async def make_rows(self) -> None:
        """Make the rows of all that is there, with a turn for others after each block."""
        for block in list(self._blocks):
            if block.end > self.start and block.make():
                await asyncio.sleep(0)

    def parties(self, since_ns: int) -> list[Party]:
        """Return who stood at either end of a flow since then (wall clock)."""
        found: set[int] = set()
        for block in self._blocks:
            if block.end > self.start:
                found |= block.parties(since_ns)
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

    def _appended(self) -> None:
        """Let go of blocks that nothing can be read from, and of names that only they used; wake who waits."""
        while self._blocks[0].end <= self.start:
            self._blocks.popleft()
            self._gone += 1
        if self._gone >= SWEEP_EVERY and len(self.names) >= self._many_names:
            self._gone = 0
            used = [(block.parties(), block.rules()) for block in self._blocks]
            self.names.sweep(set().union(*(parties for parties, _ in used)), set().union(*(rules for _, rules in used)))
            self._many_names = max(self._sweep_from, 2 * len(self.names))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
