# SPDX-License-Identifier: Apache-2.0
"""Waits until a descriptor can be read, and wakes once for it.

A loop's reader is called in every turn as long as there is something to read: who sleeps, or awaits something else,
before reading would keep the loop, and a whole CPU, turning meanwhile.
"""

from __future__ import annotations

import asyncio


class Readable:
    """Of one descriptor, in the running loop. Between two calls of `wait` nothing is watched; `close` ends the last."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return when it can be read; at once if it can be already."""
        self._event.clear()
        self._loop.add_reader(self._fd, self._ready)
        try:
            await self._event.wait()
        finally:
            self.close()

    def _ready(self) -> None:
        self.close()
        self._event.set()

    def close(self) -> None:
        """Before the descriptor is closed."""
        self._loop.remove_reader(self._fd)
