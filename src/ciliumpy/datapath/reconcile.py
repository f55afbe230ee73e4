# SPDX-License-Identifier: Apache-2.0
"""All kernel reconcilers together: what they are made of, when they may prune, and the bump after the first round."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ciliumpy.datapath.changes import NetworkChanges
from ciliumpy.datapath.ctgc import Collector
from ciliumpy.datapath.desired import DesiredEndpoints
from ciliumpy.datapath.endpoints import EndpointTarget
from ciliumpy.datapath.ipcache import IPCacheTarget
from ciliumpy.datapath.policy import PolicyTarget
from ciliumpy.datapath.routes import RouteTarget
from ciliumpy.datapath.vectors import VectorTarget
from ciliumpy.datapath.width import Widening
from ciliumpy.state.reconciler import Reconciler
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, ROUTES
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS, VECTORS
from ciliumpy.tables.ipcache import IPCACHE

if TYPE_CHECKING:
    from ciliumpy.datapath.devices import Devices
    from ciliumpy.datapath.loader import Datapath
    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import JobGroup


class Reconcilers:
    """Carries the tables into the kernel. Nothing that a former agent left is removed before `complete`."""

    def __init__(
        self, db: Database, datapath: Datapath, devices: Devices, clock: Clock, *, audit: bool = False
    ) -> None:
        maps, epochs = datapath.maps, datapath.epochs
        self._epochs = epochs
        self.endpoints = EndpointTarget(maps, epochs, datapath, db.table(ENDPOINTS))
        self.vectors, self._vector_rows = VectorTarget(maps, epochs), db.table(VECTORS)
        self.policy = PolicyTarget(db, maps, epochs, self.endpoints.in_use, self.vectors.holds)
        self.width = Widening(db, datapath, self.vectors, self.policy)
        self.ipcache = IPCacheTarget(maps, epochs, db.table(VECTORS))
        self.collector = Collector(maps, datapath.now)
        self._changes = NetworkChanges(db, epochs, devices.underlay, datapath.pods.values)
        self._desired = DesiredEndpoints(db, audit=audit)
        targets: list[tuple[Any, Any]] = [
            (VECTORS, self.vectors),
            (POLICY_SETS, self.policy),
            (KERNEL_ENDPOINTS, self.endpoints),
            (IPCACHE, self.ipcache),
            (ROUTES, RouteTarget(devices.host, devices.underlay.pod_mtu, epochs)),
        ]
        self._reconcilers: dict[str, Reconciler[Any]] = {
            spec.name: Reconciler(db, spec, target, clock=clock, hold_prune=True) for spec, target in targets
        }

    def start(self, jobs: JobGroup) -> None:
        for name, reconciler in self._reconcilers.items():
            jobs.start_reporting(name, reconciler.run)
        jobs.start("desired-endpoints", self._desired.run)
        jobs.start("policy-sweep", self.policy.sweep)
        jobs.start_reporting("conntrack-gc", self.collector.run)
        jobs.start_reporting("network-changes", self._changes.run)

    def entries(self) -> dict[str, int]:
        """Return how many rows the maps have, as far as we wrote them; of conntrack, at the last collection."""
        vectors = dict.fromkeys(self.vectors.names, len(self._vector_rows))
        others = (self.endpoints, self.policy, self.ipcache, self.collector)
        return vectors | {name: rows for each in others for name, rows in each.entries().items()}

    async def complete(self) -> None:
        """The tables are whole: remove what nobody wants, and have every decision made before now made again."""
        for reconciler in self._reconcilers.values():
            reconciler.allow_prune()
        for reconciler in self._reconcilers.values():
            await reconciler.synced.wait()
        await asyncio.to_thread(self._epochs.bump_all)

    def close(self) -> None:
        """After the jobs have ended."""
        self._changes.close()
