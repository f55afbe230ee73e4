# SPDX-License-Identifier: Apache-2.0
"""The agent: every part, in the order of its start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.api.admin import AdminContext
from ciliumpy.api.admin_server import serve as serve_admin
from ciliumpy.api.cni import CniServer
from ciliumpy.api.observer import ObserverServer
from ciliumpy.bpf.ring import RingGroup
from ciliumpy.daemon import node, rundir
from ciliumpy.daemon.settle import Settle, listen
from ciliumpy.daemon.status import Parts, Status
from ciliumpy.datapath import loader
from ciliumpy.datapath.reconcile import Reconcilers
from ciliumpy.endpoints.controller import Endpoints
from ciliumpy.endpoints.plug import Plug
from ciliumpy.endpoints.publish import PublishTarget
from ciliumpy.endpoints.records import Records
from ciliumpy.enforcement.controller import VECTOR_BITS
from ciliumpy.enforcement.controller import Controller as Enforcement
from ciliumpy.enforcement.memory import FileMemory
from ciliumpy.flows.pipeline import FlowPipeline
from ciliumpy.identity.controller import Controller as Identity
from ciliumpy.kit.clock import SystemClock
from ciliumpy.model.verdicts import Enforcement as Mode
from ciliumpy.nodes.controller import NodeController
from ciliumpy.nodes.derive import Families
from ciliumpy.nodes.ipcache import IPCacheController
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.state.lag import LoopLag
from ciliumpy.state.reconciler import Reconciler
from ciliumpy.store.directory.store import DirectoryStore
from ciliumpy.store.last_good import LastGood
from ciliumpy.store.reflector import Reflector
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.registry import ALL_TABLES

if TYPE_CHECKING:
    from ciliumpy.daemon.config import Loaded


async def run(loaded: Loaded, stop: asyncio.Event) -> None:
    """Start everything, wait for `stop`, end everything but the datapath. CiliumpyError: it could not start."""
    config, clock = loaded.value, SystemClock()
    started_ns, health = clock.monotonic_ns(), HealthRegistry()
    jobs = JobGroup("", health, clock)

    # State, and where it comes from.
    db = Database(ALL_TABLES, clock=clock)
    store = DirectoryStore(config.store.path)
    reflector = Reflector(db, store, LastGood(config.state / "last-good"), cluster=config.node.cluster)

    # This node and its datapath.
    own = await asyncio.to_thread(node.start, config, store)
    datapath = await asyncio.to_thread(loader.load, node.settings(config, own), config.bpffs)
    reconcilers = Reconcilers(db, datapath, own.devices, clock)
    memory = FileMemory(config.run / "selectors.json", VECTOR_BITS)
    last_set, last_class = reconcilers.policy.highest_ids()

    # Controllers.
    identity = Identity(db, store, ready=reflector.ready, ipv4=config.network.ipv4, ipv6=config.network.ipv6)
    enforcement = Enforcement(
        db,
        reconcilers.policy,
        ready=reflector.ready,
        enforcement=Mode(config.policy.enforcement),
        memory=memory,
        last_set=last_set,
        last_class=last_class,
    )
    ipcache = IPCacheController(db, config.name, own.addresses, Families(config.network.ipv4, config.network.ipv6))
    nodes = NodeController(db, store, own.node)
    endpoints = Endpoints(
        db,
        Records(config.state / "endpoints"),
        own.pools,
        Plug(own.gateway),
        closed=reconcilers.endpoints.closed,
        clock=clock,
        cluster=config.node.cluster,
    )
    publish = Reconciler(
        db,
        ENDPOINTS,
        PublishTarget(store, config.name, own.node.internal_ips[0]),
        clock=clock,
        hold_prune=True,
    )

    # What the kernel tells, and who may ask.
    rings = RingGroup(datapath.maps["cp_events_v1"], datapath.event_dtype, config.run / "events.lock")
    flows = FlowPipeline(rings, db, clock, config.hubble.flows)
    lag = LoopLag()
    settle = Settle(db, reflector.ready, ipcache.caught_up, reconcilers, publish)
    status = Status(
        Parts(
            config, clock, started_ns, db, health, lag, lambda: reflector.state, own.pools, datapath, reconcilers,
            enforcement, flows, rings, settle.done.is_set,
        )
    )  # fmt: skip
    admin = AdminContext(db, status, lambda: rundir.explain(loaded), flows.monitor)
    observer = ObserverServer(flows.history, config.name, clock, cluster=config.node.cluster, rate=lambda: flows.rate)
    cni = CniServer(endpoints, own.gateway, config.run / rundir.CNI_SOCKET)

    await endpoints.restore()
    try:
        jobs.start("loop-lag", lag.run)
        jobs.start("flows", flows.run)
        reconcilers.start(jobs)
        jobs.start_reporting("store", reflector.run)
        jobs.start_reporting("identities", identity.run)
        jobs.start_reporting("enforcement", enforcement.run)
        jobs.start("endpoints", endpoints.run)
        jobs.start("ipcache-rows", lambda: ipcache.run(reflector.ready))
        jobs.start("node-routes", nodes.route)
        jobs.start_reporting("own-node", nodes.publish)
        jobs.start_reporting("published-endpoints", publish.run)
        await asyncio.to_thread(datapath.attach_node, own.devices)
        jobs.start("settle", settle.run, restart="on-error")
        await observer.start(str(config.run / rundir.HUBBLE_SOCKET))
        await listen(
            jobs,
            {
                "admin-api": lambda listening: serve_admin(admin, config.run / rundir.ADMIN_SOCKET, listening),
                "cni": cni.run,
            },
        )
        rundir.announce(config, clock.now_ns())
        await stop.wait()
    finally:
        await observer.stop()
        await jobs.stop()
        rings.close()
        datapath.close()
