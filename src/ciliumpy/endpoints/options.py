# SPDX-License-Identifier: Apache-2.0
"""When an endpoint's options are in force."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from ciliumpy.state.database import Database
    from ciliumpy.state.observer import Observer

WAIT_S = 4.0  # who asked waits five seconds for an answer


async def judged(db: Database, number: int) -> None:
    """Return when the endpoint's packets are judged as its row says. CiliumpyError: that took too long, or failed."""
    endpoints, kernel = db.table(ENDPOINTS), db.table(KERNEL_ENDPOINTS)
    observers: list[Observer[Any]] = [table.observe("options") for table in (endpoints, kernel)]
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                endpoint, slot = endpoints.get(number), kernel.get(number)
                if endpoint is None or slot is None or endpoint.audit in (None, slot.audit):
                    break
                await wait_any(*observers)
                for observer in observers:
                    observer.take()
    except TimeoutError:
        raise CiliumpyError(f"endpoint {number} is not judged so after {WAIT_S:g} s") from None
    finally:
        for observer in observers:
            observer.close()
    if number in kernel:
        await kernel.wait_done(number, WAIT_S)
