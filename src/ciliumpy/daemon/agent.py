# SPDX-License-Identifier: Apache-2.0
"""The agent: every part, in the order of its start."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from typing import TYPE_CHECKING

from ciliumpy import __version__
from ciliumpy.bpf.names import WIDE
from ciliumpy.daemon import garbage
from ciliumpy.daemon.servers import Servers
from ciliumpy.daemon.settle import Settle
from ciliumpy.daemon.status import Parts
from ciliumpy.datapath.changes import hold_addresses
from ciliumpy.datapath.reconcile import Reconcilers
from ciliumpy.datapath.rulecounts import RuleCounts
from ciliumpy.endpoints.controller import Endpoints
from ciliumpy.endpoints.host import HostEndpoint
from ciliumpy.endpoints.labelling import Labelling
from ciliumpy.endpoints.plug import Plug
from ciliumpy.endpoints.publish import PublishTarget
from ciliumpy.endpoints.records import Records
from ciliumpy.enforcement.controller import Controller as Enforcement
from ciliumpy.enforcement.memory import CountFile, FileMemory
from ciliumpy.identity import memory as numbers
from ciliumpy.identity.collect import Collector
from ciliumpy.identity.controller import Controller as Identity
from ciliumpy.identity.host import HostIdentity
from ciliumpy.identity.local import LocalIdentities
from ciliumpy.identity.remote import NodeIdentities
from ciliumpy.kit.clock import SystemClock
from ciliumpy.model.identity import SCOPE_LOCAL, SCOPE_REMOTE_NODE
from ciliumpy.nodes.controller import NodeController
from ciliumpy.nodes.derive import Families
from ciliumpy.nodes.ipcache import IPCacheController
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.state.reconciler import Reconciler
from ciliumpy.store.last_good import LastGood
from ciliumpy.store.reflector import Reflector
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.registry import ALL_TABLES

if TYPE_CHECKING:
    from ciliumpy.daemon.config import Loaded
    from ciliumpy.daemon.ground import Ground

_log = logging.getLogger(__name__)


async def run(loaded: Loaded, ground: asyncio.Future[Ground], stop: asyncio.Event) -> None:
    """Start everything, wait for `stop`, end everything but the datapath. CiliumpyError: it could not start."""
    config, clock = loaded.value, SystemClock()
    ipv4, ipv6 = config.network.ipv4, config.network.ipv6
    _log.info("ciliumpy %s, pid %d: node %s, store %s", __version__, os.getpid(), config.name, config.store.path)
    health, db = HealthRegistry(), Database(ALL_TABLES, clock=clock)
    store, own, datapath = await ground
    reflector = Reflector(db, store, LastGood(config.state / "last-good"), options=config.policy_options)
    kernel = Reconcilers(db, datapath, own.devices, clock, audit=config.policy.audit_mode)
    last_set, last_class = kernel.policy.highest_ids()
    fixed = config.fixed_identities
    identity = Identity(db, store, ready=reflector.ready, ipv4=ipv4, ipv6=ipv6, fixed=fixed)
    unused = Collector(db, store, interval_s=config.identity.gc_interval, timeout_s=config.identity.heartbeat_timeout)
    local = LocalIdentities(
        db,
        memory=numbers.FileMemory(config.run / "identities.json", SCOPE_LOCAL, ipaddress.ip_network),
        highest=kernel.vectors.highest(SCOPE_LOCAL),
        ipv4=ipv4,
        ipv6=ipv6,
    )
    match_nodes = "nodes" in config.policy.cidr_match_mode
    host_identity = HostIdentity(db, own.node, config.label_filter, by_address=match_nodes)
    enforcement = Enforcement(
        db,
        kernel.policy,
        ready=reflector.ready,
        options=config.policy_options,
        memory=FileMemory(config.run / "selectors.json", kernel.width.bits),
        size=kernel.width.bits,
        most=WIDE.bits,
        last_set=last_set,
        last_class=last_class,
        counts=RuleCounts(datapath.maps),
        count_memory=CountFile(config.run / "counts.json"),
    )
    remote = NodeIdentities(
        db,
        config.name,
        keep=config.label_filter,
        by_label=config.policy.node_selector_labels,
        by_address=match_nodes,
        memory=numbers.FileMemory(config.run / "node-identities.json", SCOPE_REMOTE_NODE),
        highest=kernel.vectors.highest(SCOPE_REMOTE_NODE),
    )
    hold_addresses(db, own.addresses)
    ipcache = IPCacheController(db, config.name, Families(ipv4, ipv6, own.devices.underlay.version))
    nodes = NodeController(db, store, own.node)
    records, plug = Records(config.state / "endpoints"), Plug(own.gateway)
    match_pods = "pods" in config.policy.cidr_match_mode
    labelling = Labelling(
        db,
        cluster=config.node.cluster,
        keep=config.label_filter,
        fixed=fixed.values(),
        match_pods=match_pods,
    )
    endpoints = Endpoints(
        db,
        records,
        own.pools,
        plug,
        kernel.endpoints,
        clock=clock,
        labelling=labelling,
        grace_s=config.identity.change_grace_period / 1000,
    )
    host = HostEndpoint(db, audit=records.load_host()) if config.policy.host_firewall else None
    target = PublishTarget(store, config.name, own.node.internal_ips[0])
    publish = Reconciler(db, ENDPOINTS, target, clock=clock, hold_prune=True)
    settle = Settle(db, reflector.ready, ipcache, kernel, publish)
    servers = Servers(
        Parts(loaded, clock, db, health, store, reflector, own, datapath, kernel, enforcement, endpoints, settle)
    )

    jobs = JobGroup("", health, clock)
    await endpoints.restore()
    try:
        kernel.start(jobs)
        jobs.start_reporting("store", reflector.run)
        jobs.start("last-good", reflector.keep)
        jobs.start_reporting("identities", identity.run)
        jobs.start_reporting("identity-gc", lambda job: unused.run(job, reflector.ready))
        jobs.start("host-identity", lambda: host_identity.run(reflector.ready))
        if host is not None:
            jobs.start("host-endpoint", lambda: host.run(host_identity.caught_up))
        jobs.start_reporting("node-identities", lambda job: remote.run(job, reflector.ready))
        jobs.start_reporting("local-identities", lambda job: local.run(job, reflector.ready))
        jobs.start_reporting("enforcement", enforcement.run)
        jobs.start("endpoints", endpoints.run)
        if match_pods:
            jobs.start("prefixes-of-pods", lambda: labelling.run(enforcement.named, endpoints.relabel))
        jobs.start("ipcache-rows", lambda: ipcache.run(reflector.ready))
        jobs.start_reporting("prefix-rows", lambda job: ipcache.prefixes.run(job, reflector.ready))
        jobs.start("node-routes", nodes.route)
        jobs.start_reporting("own-node", nodes.publish)
        jobs.start_reporting("published-endpoints", publish.run)
        await asyncio.to_thread(datapath.attach_node, own.devices)
        jobs.start_reporting("programs", datapath.watch.run)
        jobs.start_reporting("selector-width", kernel.width.run)
        jobs.start("settle", settle.run, restart="on-error")
        jobs.start("former-prefixes", lambda: local.end_start(settle.done), restart="on-error")
        jobs.start("garbage", lambda: garbage.run(settle.done.wait))
        await servers.start(jobs)
        await stop.wait()
        _log.info("stops; the datapath stays as it is")
    finally:
        await servers.stop()
        await jobs.stop()
        servers.close()
        kernel.close()
        datapath.close()
