# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells, and who may ask: the rings' reader, the admin API, Hubble's, the CNI plugin's socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.api import peers
from ciliumpy.api.admin import AdminContext
from ciliumpy.api.admin_changes import Objects
from ciliumpy.api.admin_server import serve as serve_admin
from ciliumpy.api.cni import CniServer
from ciliumpy.api.cni_messages import LIMITED, UNAVAILABLE, Failure
from ciliumpy.api.observer import ObserverServer
from ciliumpy.bpf.ring import RingGroup
from ciliumpy.daemon import rundir
from ciliumpy.daemon.runtime import RuntimeConfig
from ciliumpy.daemon.settle import listen
from ciliumpy.daemon.status import Parts, Status
from ciliumpy.flows.pipeline import FlowPipeline
from ciliumpy.state.lag import LoopLag
from ciliumpy.store.changes import Changes
from ciliumpy.store.kinds import POLICY_KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ciliumpy.state.jobs import JobGroup


def unavailable(parts: Parts) -> Failure | None:
    """Return why a runtime should give this node no pods, as CNI's STATUS says it; None: it may."""
    if not parts.settle.done.is_set():
        return Failure(UNAVAILABLE, "the agent is starting", "it is still carrying over what it found")
    store = parts.reflector.state
    if store.state == "error":
        return Failure(
            LIMITED, "the store cannot be read", f"{store.message}; pods keep the policy and the peers known by now"
        )
    for pool in parts.own.pools.values():
        if pool.allocated >= pool.total:
            return Failure(UNAVAILABLE, f"no address is left in pod CIDR {pool.network}", "delete pods of this node")
    return None


class Servers:
    """Owns the rings' lock and the sockets."""

    def __init__(self, parts: Parts) -> None:
        config, datapath = parts.loaded.value, parts.datapath
        self._config, self._clock = config, parts.clock
        maps = datapath.maps
        lock = config.run / "events.lock"
        self._rings = RingGroup(maps["cp_events_v1"], datapath.event_dtype, lock, maps["cp_evstate_v1"])
        self._flows = flows = FlowPipeline(self._rings, parts.db, parts.clock, config.hubble.flows)
        self._lag = LoopLag()
        status = Status(parts, self._flows, self._rings, self._lag)
        store = parts.reflector
        changes = Changes(parts.store, store.origins_of, config.policy_options)
        objects = Objects(changes, store.document_of, lambda: store.documents(POLICY_KINDS), parts.enforcement)

        def audit(number: int, mode: bool | None) -> Awaitable[object]:
            return parts.endpoints.configure(number, audit=mode)

        self._admin = AdminContext(
            parts.db, status, RuntimeConfig(parts.loaded, found(parts)), flows.monitor, objects, audit
        )
        self._cni = CniServer(
            parts.endpoints, parts.own.gateway, config.run / rundir.CNI_SOCKET, lambda: unavailable(parts)
        )
        self._observer = ObserverServer(
            flows.history,
            config.name,
            parts.clock,
            cluster=config.node.cluster,
            node_labels=tuple(f"{key}={value}" for key, value in parts.own.node.labels),
            rate=lambda: flows.rate,
            beside=(peers.handler(parts.db),),
        )

    async def start(self, jobs: JobGroup) -> None:
        """Return when clients can connect to every socket, and `agent.json` says so."""
        jobs.start("loop-lag", self._lag.run)
        jobs.start("flows", self._flows.run)
        await self._observer.start(str(self._config.run / rundir.HUBBLE_SOCKET))
        await listen(jobs, {"admin-api": self._serve_admin, "cni": self._cni.run})
        rundir.announce(self._config, self._clock.now_ns())

    def _serve_admin(self, listening: Callable[[], None]) -> Awaitable[None]:
        return serve_admin(self._admin, self._config.run / rundir.ADMIN_SOCKET, listening)

    async def stop(self) -> None:
        """Hear no more clients; the jobs are stopped by their group, then `close` the rings."""
        await self._observer.stop()

    def close(self) -> None:
        self._rings.close()


def found(parts: Parts) -> dict[str, str | int]:
    """Return what settings came to that were left to the machine."""
    underlay = parts.own.devices.underlay
    return {
        "network.mtu": underlay.mtu,
        "network.underlay": f"ipv{underlay.version}",
        "network.attach": parts.datapath.hooks.kind,
    }
