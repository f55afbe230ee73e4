# SPDX-License-Identifier: Apache-2.0
"""Bumps the global epoch when the node's links, addresses or routes change: a cached way may be another now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.net.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.state.jobs import Job

SETTLE_S = 0.02  # a change seldom comes alone


class NetworkChanges:
    """A job. Pods' own devices come and go by our hand and bump what they must themselves."""

    def __init__(self, epochs: Epochs, pods: Callable[[], Collection[int]]) -> None:
        self._epochs = epochs
        self._pods = pods
        self._watch = Watch()
        self._bumps = 0

    async def run(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        loop.add_reader(self._watch.fileno(), heard.set)
        try:
            while True:
                await heard.wait()
                await asyncio.sleep(SETTLE_S)
                heard.clear()
                if self._watch.read() - set(self._pods()):
                    self._epochs.bump_global()
                    self._bumps += 1
                    job.ok(f"{self._bumps} changes")
        finally:
            loop.remove_reader(self._watch.fileno())

    def close(self) -> None:
        self._watch.close()
