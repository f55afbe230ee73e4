# SPDX-License-Identifier: Apache-2.0
"""Identities that other nodes may not know yet.

A pod whose labels change goes on with its former identity until the new one has been known here for a while: a node
that hears of it later would drop what the pod sends. A pod that is plugged in has no former one: it waits for nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.kit.clock import Clock
    from ciliumpy.tables.identities import Identity


class Newcomers:
    """Those of the last `grace_s` seconds, the oldest first."""

    def __init__(self, clock: Clock, grace_s: float) -> None:
        self._clock = clock
        self._grace_ns = int(grace_s * 1e9)
        self._since: dict[int, int] = {}
        self._queue: deque[tuple[int, Identity]] = deque()

    def blocks(self, identity: int, former: int) -> bool:
        """Whether a pod with that former identity, 0: none, has to wait for its new one."""
        return bool(former) and former != identity and identity in self._since

    def follow(self, identities: Iterable[Identity]) -> set[tuple[str, ...]]:
        """These are known from now on; return their labels, and those of newcomers that are no longer."""
        now = self._clock.monotonic_ns()
        concerned = set()
        for identity in identities:
            concerned.add(identity.labels)
            if identity.id not in self._since:
                self._since[identity.id] = now
                self._queue.append((now, identity))
        while self._queue and self._queue[0][0] + self._grace_ns <= now:
            settled = self._queue.popleft()[1]
            del self._since[settled.id]
            concerned.add(settled.labels)
        return concerned

    def wait_s(self) -> float | None:
        """Return the time until the next one settles; None: there is none."""
        if not self._queue:
            return None
        return max(0.0, (self._queue[0][0] + self._grace_ns - self._clock.monotonic_ns()) / 1e9)
