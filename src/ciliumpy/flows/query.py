# SPDX-License-Identifier: Apache-2.0
"""GetFlows over a history: which rows, in which order, and when it ends.

`since` wins over `number` for where to begin; `number` then still limits how many are sent, unless one follows. A loss
is always sent and never counted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ciliumpy.flows import columns
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ciliumpy.flows.columns import Mask, Rows
    from ciliumpy.flows.filters import FlowMatcher
    from ciliumpy.flows.history import History
    from ciliumpy.kit.clock import Clock

CHUNK = 512  # rows handed out at once, so that the event loop gets its turn between
LOSS_EVERY_NS = 1_000_000_000
UNTIL_GRACE_S = 0.25


class Query(NamedTuple):
    """Times in ns since 1970. `number` 0: no limit."""

    number: int = 0
    first: bool = False
    follow: bool = False
    since: int | None = None
    until: int | None = None


class Selection:
    """One run of a query. CiliumpyError if it contradicts itself."""

    def __init__(self, history: History, matcher: FlowMatcher, query: Query, clock: Clock) -> None:
        if query.first and query.follow:
            raise CiliumpyError("first cannot be specified with follow", exit_code=2)
        self._history = history
        self._matcher = matcher
        self._query = query
        self._clock = clock

    async def rows(self) -> AsyncIterator[Rows]:
        """Yield the rows that pass, at most CHUNK at once; for ever if the query follows."""
        query = self._query
        position = self._history.end
        if not (query.follow and not query.number and query.since is None):
            if not (query.number and self._matcher.passes_all and not query.first):
                await self._history.make_rows()
            for found in self.recorded():
                for start in range(0, len(found), CHUNK):
                    yield found[start : start + CHUNK]
        if query.follow:
            async for found in self._follow(position):
                yield found

    def recorded(self) -> list[Rows]:
        """Return the rows that pass of those that are in the history now, oldest first."""
        query = self._query
        if query.first or query.since is not None or not query.number:
            return self._forward()
        found: list[Rows] = []
        wanted = query.number
        for _, rows in self._history.spans_backwards():
            mask = self._mask(rows)
            counted = np.flatnonzero(mask & (rows["event_type"] != columns.LOST))
            if len(counted) >= wanted:
                mask[: counted[len(counted) - wanted]] = False
                found.append(columns.take(rows, mask))
                break
            wanted -= len(counted)
            found.append(columns.take(rows, mask))
        return found[::-1]

    def _forward(self) -> list[Rows]:
        query = self._query
        spans: list[Rows] = []
        for _, rows in self._history.spans_backwards():
            if query.since is not None and int(rows["time"].max()) < query.since:
                break
            spans.append(rows)
        found: list[Rows] = []
        wanted = query.number if query.number and not query.follow else None
        for rows in reversed(spans):
            mask = self._mask(rows)
            if wanted is not None:
                counted = np.flatnonzero(mask & (rows["event_type"] != columns.LOST))
                if len(counted) >= wanted:
                    mask[counted[wanted - 1] + 1 :] = False
                    found.append(columns.take(rows, mask))
                    break
                wanted -= len(counted)
            found.append(columns.take(rows, mask))
        return found

    def _mask(self, rows: Rows) -> Mask:
        mask = self._matcher.mask(rows)
        if self._query.since is not None:
            mask &= rows["time"] >= self._query.since
        if self._query.until is not None:
            mask &= rows["time"] <= self._query.until
        return mask

    async def _more(self, position: int) -> bool:
        """Wait for a row at `position`; false when there will be none until `until`."""
        until = self._query.until
        if until is None:
            await self._history.wait(position)
            return True
        try:
            # What was made before `until` may still be on its way here.
            async with asyncio.timeout(max(0.0, (until - self._clock.now_ns()) / 1e9) + UNTIL_GRACE_S):
                await self._history.wait(position)
        except TimeoutError:
            return False
        return True

    async def _follow(self, position: int) -> AsyncIterator[Rows]:
        lost, told = 0, 0
        while await self._more(position):
            lost += max(0, self._history.start - position)
            now = self._clock.now_ns()
            if lost and now - told >= LOSS_EVERY_NS:
                yield columns.loss(now, lost, columns.LOST_IN_HISTORY)
                lost, told = 0, now
            spans = self._history.spans(position, self._history.end)
            position = self._history.end
            for rows in spans:
                found = columns.take(rows, self._mask(rows))
                for start in range(0, len(found), CHUNK):
                    yield found[start : start + CHUNK]
            if self._query.until is not None and int(spans[-1]["time"][-1]) > self._query.until:
                return
