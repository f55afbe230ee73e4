# SPDX-License-Identifier: Apache-2.0
"""Keeps the garbage collector from holding up the event loop.

A full pass over a hundred thousand rows takes 0.1 s, and rows have no cycles. So what has survived once is not looked
at again: the collector sees only what is new since the last pass.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PASS_EVERY_S = 60.0
_THRESHOLDS = (20_000, 5, 1_000_000)  # the last is never reached: full passes are ours


def begin() -> None:
    """Before anything is loaded: no full passes of the collector's own."""
    gc.set_threshold(*_THRESHOLDS)


async def run(settled: Callable[[], Awaitable[object]]) -> None:
    """A job: after the start, then once a minute."""
    await settled()
    while True:
        gc.collect()
        gc.freeze()
        await asyncio.sleep(PASS_EVERY_S)
