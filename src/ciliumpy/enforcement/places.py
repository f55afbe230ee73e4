# SPDX-License-Identifier: Apache-2.0
"""Places to count in, in the kernel and on disk: whose each is outlives the agent, as the counts do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ciliumpy.enforcement.counting import Counting
from ciliumpy.enforcement.memory import NoCountMemory

if TYPE_CHECKING:
    from ciliumpy.enforcement.counting import KernelCounts
    from ciliumpy.enforcement.memory import CountMemory

SAVE_NS = 1_000_000_000  # between two writes, however often rules change

_log = logging.getLogger(__name__)


class Places(Counting):
    """A place goes to another rule only after this: the disk has forgotten whose it was, then its count began anew.

    What the disk does not know yet when the agent dies is nobody's afterwards: a count is lost then, and never mixed.
    """

    def __init__(self, kernel: KernelCounts | None, memory: CountMemory | None) -> None:
        self._kernel, self._memory = kernel, memory or NoCountMemory()
        if kernel is None:
            super().__init__()
        else:
            super().__init__(kernel.size, kernel.used(), self._memory.load())
        self._saved: dict[int, str] | None = None
        self._saved_ns = 0
        self._fault = ""

    @property
    def unsaved(self) -> bool:
        """Whether the disk does not know all yet."""
        return self._kernel is not None and self._saved != self.rules

    async def renew(self) -> None:
        """See that there are places to count in."""
        if self._kernel is not None and (stale := self.wanting()) and await self._save():
            await asyncio.to_thread(self._kernel.begin_anew, stale)
            self.renewed(stale)

    async def remember(self, now_ns: int) -> None:
        """Write down what is new, not more than once a second."""
        if self.unsaved and (not self._saved_ns or now_ns - self._saved_ns >= SAVE_NS):
            self._saved_ns = now_ns
            await self._save()

    async def _save(self) -> bool:
        rules = dict(self.rules)
        if rules == self._saved:
            return True
        try:
            await asyncio.to_thread(self._memory.save, rules)
        except OSError as error:
            if self._fault != str(error):
                _log.warning("which rule counts where cannot be written down, new rules are not counted: %s", error)
            self._fault = str(error)
            return False
        self._saved, self._fault = rules, ""
        return True
