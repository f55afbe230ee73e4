# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself, put together when somebody asks. The keys are an interface: never renamed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy import __version__
from ciliumpy.endpoints.state import READY, shown_state
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS
from ciliumpy.tables.identities import IDENTITIES
from ciliumpy.tables.source import POLICIES, PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ciliumpy.bpf.ring import RingGroup
    from ciliumpy.daemon.config import AgentConfig
    from ciliumpy.datapath.loader import Datapath
    from ciliumpy.datapath.reconcile import Reconcilers
    from ciliumpy.enforcement.controller import Controller as Enforcement
    from ciliumpy.flows.pipeline import FlowPipeline
    from ciliumpy.ipam.allocate import Pool
    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.database import Database
    from ciliumpy.state.health import HealthRegistry
    from ciliumpy.state.lag import LoopLag
    from ciliumpy.store.interface import StoreState

Object = dict[str, Any]


class Parts(NamedTuple):
    """What `status` asks."""

    config: AgentConfig
    clock: Clock
    started_ns: int
    db: Database
    health: HealthRegistry
    lag: LoopLag
    store: Callable[[], StoreState]
    pools: Mapping[str, Pool]
    datapath: Datapath
    reconcilers: Reconcilers
    enforcement: Enforcement
    flows: FlowPipeline
    rings: RingGroup
    settled: Callable[[], bool]


class Status:
    """Makes AgentStatus. Cheap enough to be asked many times a second: it reads no map but per-CPU counters."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __call__(self) -> Object:
        parts, config = self._parts, self._parts.config
        problems = list(self._problems())
        store = parts.store()
        bad = store.state == "error" or any(p["severity"] == "error" for p in problems)
        state = "starting" if not parts.settled() else "degraded" if bad or parts.health.degraded() else "ok"
        counts = parts.enforcement.counts
        lag = parts.lag.lag()
        return {
            "node": config.name,
            "cluster": config.node.cluster,
            "version": __version__,
            "pid": os.getpid(),
            "uptimeSeconds": round((parts.clock.monotonic_ns() - parts.started_ns) / 1e9, 1),
            "state": state,
            "problems": problems,
            "store": {"path": config.store.path, "state": store.state, "message": store.message},
            "ipam": {
                family: {"cidr": str(pool.network), "allocated": pool.allocated, "total": pool.total}
                for family, pool in parts.pools.items()
            },
            "datapath": {
                "device": config.network.device,
                "tunnel": config.network.tunnel,
                "attach": "tcx",
                "programs": parts.datapath.attached,
                "epoch": parts.datapath.epochs.value(),
            },
            "endpoints": self._endpoints(),
            "policy": {
                "revision": counts.revision,
                "policies": counts.policies,
                "sets": counts.sets,
                "classes": counts.classes,
                "bits": counts.bits,
                "bitsTotal": counts.bits_total,
            },
            "identities": len(parts.db.table(IDENTITIES)),
            "hubble": {
                "flows": len(parts.flows.history),
                "maxFlows": parts.flows.history.capacity,
                "seen": parts.flows.history.end,
                "rate": round(parts.flows.rate, 2),
                "lost": parts.rings.lost,
                "heldBack": parts.datapath.held_back(),
            },
            "monitor": {
                "cpus": os.cpu_count() or 1,
                "rings": len(parts.rings.rings),
                "ringBytes": parts.rings.rings[0].size if parts.rings.rings else 0,
            },
            "jobs": [
                {"name": job.name, "state": job.state, "message": job.message, "restarts": job.restarts}
                for job in parts.health.all()
            ],
            "loopLagMs": {"p50": lag.p50, "p99": lag.p99, "max": lag.max},
            "maps": [
                {"name": name, "entries": entries, "maxEntries": parts.datapath.maps[name].max_entries}
                for name, entries in sorted(parts.reconcilers.entries().items())
            ],
        }

    def _endpoints(self) -> Object:
        rows = self._parts.db.table(ENDPOINTS).all()
        ready = sum(shown_state(self._parts.db, row)[0] == READY for row in rows)
        return {"total": len(rows), "ready": ready, "notReady": len(rows) - ready}

    def _problems(self) -> Iterator[Object]:
        db = self._parts.db
        for row in db.table(PROBLEMS).all():
            yield {
                "severity": row.severity,
                "origin": row.origin,
                "object": row.object,
                "line": row.line,
                "field": row.field,
                "message": row.message,
            }
        policies = db.table(POLICIES)
        for policy in policies.all():
            status = policies.status((policy.kind, policy.namespace, policy.name))
            if status.state == "error":
                what = f"{policy.kind}/{policy.namespace}/{policy.name}"
                yield _error(what, status.error, policy.origin)
        sets = db.table(POLICY_SETS)
        for policy_set in sets.all():
            status = sets.status(policy_set.id)
            if policy_set.current and status.state == "error":
                yield _error(f"policy of identity {policy_set.identity}", status.error)


def _error(what: str, message: str, origin: str = "") -> Object:
    return {"severity": "error", "origin": origin, "object": what, "line": 0, "field": "", "message": message}
