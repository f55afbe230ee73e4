# SPDX-License-Identifier: Apache-2.0
"""Agents as far as streams go: the real admin API and the real pipeline, over rings without a kernel."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ciliumpy.api.admin import AdminContext
from ciliumpy.api.admin_server import serve
from ciliumpy.flows.pipeline import FlowPipeline
from ciliumpy.kit.clock import SystemClock
from ciliumpy.state.database import WriteTransaction
from tests.golden.agents import objects
from tests.unit.flows import events
from tests.unit.flows.rings import Rings


class Agent:
    """The parts of an agent that a monitor talks to. `asked` is set when somebody listens."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.rings = Rings()
        self.asked = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        said = {"node": name, "lab": "demo", "adminSocket": str(folder / "agent.sock")}
        asyncio.run_coroutine_threadsafe(self._start(folder / "agent.sock"), self._loop).result(10)
        (folder / "agent.json").write_text(json.dumps(said))

    async def _start(self, path: Path) -> None:
        self.db = events.cluster()
        self.pipeline = FlowPipeline(self.rings, self.db, SystemClock())
        listening = asyncio.Event()

        async def monitor(types):
            stream = self.pipeline.monitor(types)
            self._loop.call_later(0, self.asked.set)
            async for record in stream:
                yield record

        rings = {"monitor": {"cpus": 2, "rings": 2, "ringBytes": 1048576}, "state": "ok"}
        context = AdminContext(self.db, lambda: rings, dict, monitor, objects(self.db, path.parent))
        self._jobs = [
            asyncio.ensure_future(self.pipeline.run()),
            asyncio.ensure_future(serve(context, path, listening.set)),
        ]
        await listening.wait()

    def write(self, change: Callable[[WriteTransaction], None]) -> None:
        """Change tables, in the agent's loop."""

        async def go() -> None:
            with self.db.write() as txn:
                change(txn)

        asyncio.run_coroutine_threadsafe(go(), self._loop).result(10)

    def close(self) -> None:
        async def end() -> None:
            for job in self._jobs:
                job.cancel()
            await asyncio.gather(*self._jobs, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.rings.close()


@contextmanager
def agents(run_dir: Path, *names: str) -> Iterator[list[Agent]]:
    running: list[Agent] = []
    try:
        for name in names:
            agent = Agent(name, run_dir / "labs/demo" / name)
            running.append(agent)
        spec = {"name": "demo", "nodes": [{"name": name} for name in names]}
        (run_dir / "labs/demo/lab.json").write_text(json.dumps(spec))
        yield running
    finally:
        for agent in running:
            agent.close()
