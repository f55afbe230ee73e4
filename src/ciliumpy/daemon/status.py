# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself, put together when somebody asks. The keys are an interface: never renamed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy import __version__
from ciliumpy.daemon import pressure
from ciliumpy.datapath.devices import HOST_DEVICE, TUNNEL_DEVICE
from ciliumpy.endpoints.state import READY, shown_state
from ciliumpy.identity.allocate import MOST
from ciliumpy.model.identity import LAST_ALLOCATED
from ciliumpy.store.kinds import POLICY_KINDS
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, NODE_ADDRESSES
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS
from ciliumpy.tables.identities import IDENTITIES
from ciliumpy.tables.source import IDENTITY_OBJECTS, POLICIES, PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ciliumpy.bpf.ring import RingGroup
    from ciliumpy.daemon.config import Loaded
    from ciliumpy.daemon.node import Own
    from ciliumpy.daemon.settle import Settle
    from ciliumpy.datapath.loader import Datapath
    from ciliumpy.datapath.reconcile import Reconcilers
    from ciliumpy.endpoints.controller import Endpoints
    from ciliumpy.enforcement.controller import Controller as Enforcement
    from ciliumpy.flows.pipeline import FlowPipeline
    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.database import Database
    from ciliumpy.state.health import HealthRegistry
    from ciliumpy.state.lag import LoopLag
    from ciliumpy.store.interface import Store
    from ciliumpy.store.reflector import Reflector

Object = dict[str, Any]

MOST_REFUSED = 5  # that are named beside their number


class Parts(NamedTuple):
    """The agent's parts, for those who tell of them."""

    loaded: Loaded
    clock: Clock
    db: Database
    health: HealthRegistry
    store: Store
    reflector: Reflector
    own: Own
    datapath: Datapath
    kernel: Reconcilers
    enforcement: Enforcement
    endpoints: Endpoints
    settle: Settle


class Status:
    """Makes AgentStatus. Cheap enough to be asked many times a second: it reads no map but per-CPU counters."""

    def __init__(self, parts: Parts, flows: FlowPipeline, rings: RingGroup, lag: LoopLag) -> None:
        self._parts, self._flows, self._rings, self._lag = parts, flows, rings, lag
        self._started_ns = parts.clock.monotonic_ns()

    def __call__(self) -> Object:
        parts, flows, rings = self._parts, self._flows, self._rings
        config, store, settled = parts.loaded.value, parts.reflector.state, parts.settle.done.is_set()
        fills = pressure.fills(parts.kernel.entries(), parts.datapath.maps)
        counts = parts.enforcement.counts
        tight = [*pressure.warnings(fills), *pressure.selectors(counts.bits, counts.bits_most)]
        problems = [*self._problems(), *(_problem("warning", *said) for said in tight)]
        bad = store.state == "error" or any(p["severity"] == "error" for p in problems)
        state = "starting" if not settled else "degraded" if bad or parts.health.degraded() else "ok"
        lag = self._lag.lag()
        return {
            "node": config.name,
            "cluster": config.node.cluster,
            "version": __version__,
            "pid": os.getpid(),
            "uptimeSeconds": round((parts.clock.monotonic_ns() - self._started_ns) / 1e9, 1),
            "state": state,
            "problems": problems,
            "store": {"path": config.store.path, "state": store.state, "message": store.message},
            "ipam": {
                family: {"cidr": str(pool.network), "allocated": pool.allocated, "total": pool.total}
                for family, pool in parts.own.pools.items()
            },
            "datapath": {
                "device": config.network.device,
                "tunnel": config.network.tunnel,
                "attach": parts.datapath.hooks.kind,
                "programs": parts.datapath.attached,
                "epoch": parts.datapath.epochs.value(),
                "foreign": [one._asdict() for one in parts.datapath.watch.foreign],
            },
            "endpoints": self._endpoints(),
            "policy": {
                "revision": counts.revision,
                "policies": counts.policies,
                "sets": counts.sets,
                "classes": counts.classes,
                "bits": counts.bits,
                "bitsTotal": counts.bits_total,
                "bitsMost": counts.bits_most,
                "pending": counts.pending,
                "realised": counts.realised,
                "auditMode": config.policy.audit_mode,
                "audited": sum(row.audit for row in parts.db.table(KERNEL_ENDPOINTS).all()),
                "refused": _refused(problems),
            },
            "identities": len(parts.db.table(IDENTITIES)),
            "identityUse": self._identity_use(),
            "hubble": {
                "flows": len(flows.history),
                "maxFlows": flows.history.capacity,
                "seen": flows.history.end,
                "rate": round(flows.rate, 2),
                "events": flows.events,
                "lost": rings.lost,
                "heldBack": parts.datapath.held_back(),
            },
            "monitor": {
                "cpus": os.cpu_count() or 1,
                "rings": len(rings.rings),
                "ringBytes": rings.rings[0].size if rings.rings else 0,
            },
            "jobs": [
                {"name": job.name, "state": job.state, "message": job.message, "restarts": job.restarts}
                for job in parts.health.all()
            ],
            "loopLagMs": {"p50": lag.p50, "p99": lag.p99, "max": lag.max},
            "maps": [fill._asdict() for fill in fills],
        }

    def _identity_use(self) -> Object:
        """How many numbers of each kind this node knows; those of the cluster are few enough to run out."""
        db = self._parts.db
        numbers = [row.id for row in db.table(IDENTITIES).all()]
        local = sum(number > LAST_ALLOCATED for number in numbers)
        return {"cluster": len(db.table(IDENTITY_OBJECTS)), "clusterTotal": MOST, "local": local}

    def _endpoints(self) -> Object:
        rows = self._parts.db.table(ENDPOINTS).all()
        ready = sum(shown_state(self._parts.db, row)[0] == READY for row in rows)
        return {"total": len(rows), "ready": ready, "notReady": len(rows) - ready}

    def _problems(self) -> Iterator[Object]:
        db = self._parts.db
        path = self._parts.loaded.value.store.path
        if self._parts.reflector.state.state == "ok" and not os.access(path, os.W_OK):
            yield _error("", "cannot be written: what this node allocates from now on, nobody else learns", path)
        for one in self._parts.datapath.watch.foreign:
            if one.hook == "pod" and one.position == "before":
                what = f"{one.kind} program {one.name or one.id}"
                yield _problem("warning", one.device, f"{what} runs before ours: what it accepts, no policy judges")
        yield from identity_problems(len(db.table(IDENTITY_OBJECTS)))
        for device in sorted(self._unguarded()):
            native = self._parts.loaded.value.network.device
            what = f"host policies do not judge what comes and goes by it: they guard {native} (network.device)"
            yield _problem("warning", device, what)
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

    def _unguarded(self) -> set[str]:
        """Devices with addresses of this node, but no program for policies of the node."""
        if not self._parts.loaded.value.policy.host_firewall:
            return set()
        others = {row.device for row in self._parts.db.table(NODE_ADDRESSES).all() if not row.native}
        return {name for name in others if name not in (HOST_DEVICE, TUNNEL_DEVICE)}


def identity_problems(used: int) -> Iterator[Object]:
    """Say when the cluster's identities come to their end: from 90 % on, before it hurts."""
    if used >= MOST:
        yield _error("identities", f"all {MOST} of the cluster are in use: pods with labels that no other has fail")
    elif used >= MOST * 0.9:
        what = f"{used} of the cluster's {MOST} are in use: look for labels that never repeat (identity.labels)"
        yield _problem("warning", "identities", what)


def _refused(problems: Sequence[Object]) -> Object:
    """Policies that are not in force as they are written: how many, and the first with the reason."""
    first: dict[str, Object] = {}
    for one in problems:
        if one["severity"] == "error" and one["object"].partition("/")[0] in POLICY_KINDS:
            first.setdefault(one["object"], {key: one[key] for key in ("object", "field", "message", "origin", "line")})
    return {"count": len(first), "first": [first[name] for name in sorted(first)[:MOST_REFUSED]]}


def _error(what: str, message: str, origin: str = "") -> Object:
    return _problem("error", what, message, origin)


def _problem(severity: str, what: str, message: str, origin: str = "") -> Object:
    return {"severity": severity, "origin": origin, "object": what, "line": 0, "field": "", "message": message}
