# SPDX-License-Identifier: Apache-2.0
"""Who waits for a descriptor is woken once, and the loop does not turn until it is read."""

from __future__ import annotations

import asyncio
import os

from ciliumpy.state.readable import Readable


def test_what_can_be_read_wakes_each_who_waits_and_nobody_else() -> None:
    async def scenario() -> int:
        reading, writing = os.pipe()
        loop = asyncio.get_running_loop()
        try:
            readable = Readable(reading)
            waiting = asyncio.create_task(readable.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            os.write(writing, b"x")
            await waiting
            assert not loop.remove_reader(reading), "nothing is watched until somebody waits again"
            await readable.wait()  # it has not been read
            os.read(reading, 1)
            with_timeout = asyncio.create_task(readable.wait())
            await asyncio.wait([with_timeout], timeout=0.01)
            with_timeout.cancel()
            await asyncio.wait([with_timeout])
            assert with_timeout.cancelled()
            return int(loop.remove_reader(reading))
        finally:
            os.close(reading)
            os.close(writing)

    assert asyncio.run(scenario()) == 0
