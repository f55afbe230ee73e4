# SPDX-License-Identifier: Apache-2.0
"""The doors of an agent whose kernel is a fake one. All but the store outlive the agent, as the real ones do."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from ciliumpy.bpf.names import NARROW
from ciliumpy.daemon.status import Parts
from ciliumpy.datapath.company import Watch
from ciliumpy.datapath.devices import Devices
from ciliumpy.datapath.epochs import Epochs
from ciliumpy.state.jobs import JobGroup
from ciliumpy.store.directory.store import DirectoryStore
from ciliumpy.store.interface import Batch
from ciliumpy.tables.endpoints import Endpoint
from tests.unit.datapath.kernel import Doors, FakeMap, Kernel


class Store(DirectoryStore):
    """Counts how often each file was carried over: who asks for the next batch has done with the last."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.carried: Counter[str] = Counter()

    async def watch(self) -> AsyncIterator[Batch]:
        async for batch in super().watch():
            yield batch
            self.carried.update(read.origin for read in batch.reads)


class Datapath(Doors):
    """The maps of a fake kernel, and programs on devices that are only names."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.maps: dict[str, FakeMap] = kernel.maps
        self.epochs = Epochs(kernel.maps)
        self.epochs.bump_all()
        self.pods: dict[str, int] = {}
        self.watch = Watch("tcx", list, lambda _: False, threading.RLock())
        self.width, self.moving = NARROW, ()

    def attach_node(self, devices: Devices) -> None:
        self.log.append(("attach", devices.underlay.name))

    def now(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Plug:
    """Pods' devices as names and numbers."""

    def __init__(self) -> None:
        self._links: dict[str, int] = {}
        self._made = 0

    def create(self, endpoint: Endpoint, netns_fd: int) -> tuple[int, int]:
        self._made += 1
        self._links[endpoint.host_interface] = 40 + self._made
        return self._links[endpoint.host_interface], 2

    def fill(self, endpoint: Endpoint, netns_fd: int) -> None:
        pass

    def remove(self, host_interface: str) -> None:
        self._links.pop(host_interface, None)

    def devices(self) -> dict[str, int]:
        return dict(self._links)

    def is_intact(self, endpoint: Endpoint) -> bool:
        return self._links.get(endpoint.host_interface) == endpoint.ifindex


class Route(NamedTuple):
    destination: str
    source: str


class Routes:
    """The kernel's routes over the host's door, with the functions of `net.routes`."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def replace_route(self, destination: str, oif: int, *, src: str, **_: Any) -> None:
        self._routes[destination] = Route(destination, src)

    def delete_route(self, destination: str, oif: int) -> bool:
        return self._routes.pop(destination, None) is not None

    def routes(self, oif: int) -> list[Route]:
        return list(self._routes.values())


class Servers:
    """No sockets: who runs the agent is given its parts when clients could connect."""

    def __init__(self, parts: Parts, started: asyncio.Future[Parts]) -> None:
        self._parts = parts
        self._started = started

    async def start(self, jobs: JobGroup) -> None:
        self._started.set_result(self._parts)

    async def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
