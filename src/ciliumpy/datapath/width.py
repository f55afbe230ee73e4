# SPDX-License-Identifier: Apache-2.0
"""More selectors than the vectors have bits: leads the node from the narrow programs to the wide ones, under traffic.

1. The wide programs are loaded. Their vectors and classes are copied from the narrow maps, a former agent's too, and
   compared; from then on every write goes to both maps. All other maps are shared.
2. The hooks get the wide program, one by one. Meanwhile both kinds run side by side and find the same rows.
3. A moment later, when no packet is in a narrow program any more, the narrow maps are unpinned, then written no longer.
4. Only now INSTALLED_WIDTH says so, and only then selectors get bits that narrow maps have no room for.

While the narrow maps are pinned they are whole: an agent that finds both goes on at 1 (loader.py). There is no way back
while the pins last: vectors of 512 bytes harm nobody.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from ciliumpy.bpf.names import NARROW, WIDE, Width
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import INSTALLED_WIDTH, InstalledWidth
from ciliumpy.tables.enforcement import WANTED_WIDTH

if TYPE_CHECKING:
    from ciliumpy.datapath.kernel import KernelMaps
    from ciliumpy.datapath.policy import PolicyTarget
    from ciliumpy.datapath.vectors import VectorTarget
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job

GRACE_S = 1.0  # a packet in a program that was replaced has long left it
RETRY_S = 300.0

_log = logging.getLogger(__name__)


class Programs(Protocol):
    """The loaded programs: `loader.Datapath`, or the tests' fake."""

    @property
    def maps(self) -> KernelMaps: ...
    @property
    def width(self) -> Width: ...
    @property
    def moving(self) -> tuple[str, ...]: ...
    def load_wide(self) -> None: ...
    def swap(self) -> None: ...
    def unpin_former(self) -> None: ...
    def forget_former(self) -> None: ...


class Widening:
    """A job. WANTED_WIDTH in, INSTALLED_WIDTH out."""

    def __init__(self, db: Database, programs: Programs, vectors: VectorTarget, policy: PolicyTarget) -> None:
        self._db = db
        self._programs = programs
        self._vectors = vectors
        self._policy = policy
        self._wanted = db.table(WANTED_WIDTH).observe("width")
        self._announce()

    @property
    def bits(self) -> int:
        """How many selectors every program tells apart, and every map."""
        return NARROW.bits if self._programs.moving else self._programs.width.bits

    async def run(self, job: Job) -> None:
        while True:
            self._wanted.take()
            error = ""
            try:
                await self.step()
            except CiliumpyError as failure:
                error = failure.message
                _log.error("%d selectors cannot be had: %s", WIDE.bits, error)
            self._announce(error)
            if error:
                job.degraded(error)
            else:
                job.ok(f"{self.bits} selector bits")
            await wait_any(self._wanted, timeout_s=RETRY_S if error else None)

    async def step(self) -> None:
        """Go all the way, if more is wanted than there is, or to the end of one. CiliumpyError: it leads no further."""
        wanted = max((row.bits for row in self._db.table(WANTED_WIDTH).all()), default=0)
        if wanted > self._programs.width.bits < WIDE.bits:
            _log.info("more than %d selectors are wanted: loading the wide programs", self._programs.width.bits)
            await asyncio.to_thread(self._programs.load_wide)
            await self._vectors.add(self._programs.maps[WIDE.vectors])
            await self._policy.add_classes(self._programs.maps[WIDE.classes])
        elif not self._programs.moving:
            return
        await asyncio.to_thread(self._programs.swap)
        await asyncio.sleep(GRACE_S)
        self._programs.unpin_former()
        for name in self._programs.moving:
            await self._vectors.drop(name)
            await self._policy.drop_classes(name)
        self._programs.forget_former()
        _log.info("all programs have %d selector bits", self._programs.width.bits)

    def _announce(self, error: str = "") -> None:
        row = InstalledWidth(self.bits, error)
        if self._db.table(INSTALLED_WIDTH).get(0) != row:
            with self._db.write() as txn:
                txn.upsert(INSTALLED_WIDTH, row)
