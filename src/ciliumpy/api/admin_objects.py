# SPDX-License-Identifier: Apache-2.0
"""How rows look in the admin API. The keys are an interface: they may be added to, not renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.api.admin_policy import endpoint_policy
from ciliumpy.endpoints.state import shown_state
from ciliumpy.model.rule import NamedPort
from ciliumpy.model.verdicts import Direction, Tier, Verdict
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, KernelEndpoint
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.identities import IDENTITIES
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.source import POLICIES

if TYPE_CHECKING:
    from ciliumpy.api.awaited import PolicyView
    from ciliumpy.model.ports import PortRange
    from ciliumpy.model.rule import Rule
    from ciliumpy.state.database import Database
    from ciliumpy.tables.identities import Identity
    from ciliumpy.tables.source import Node, Policy

Object = dict[str, Any]

AUDIT_OPTION = "PolicyAuditMode"


def endpoint(db: Database, row: Endpoint) -> Object:
    kernel = db.table(KERNEL_ENDPOINTS).get(row.id)
    if kernel is None:
        policy = {"ingress": "unknown", "egress": "unknown"}
    else:
        policy = {
            "ingress": _enforcement(kernel.ingress_enforced, kernel.audit),
            "egress": _enforcement(kernel.egress_enforced, kernel.audit),
        }
    state, error = shown_state(db, row)
    return {
        "id": row.id,
        "namespace": row.namespace,
        "pod": row.pod,
        "containerID": row.container_id,
        "interface": row.interface,
        "hostInterface": row.host_interface,
        "mac": row.mac,
        "ipv4": row.ipv4,
        "ipv6": row.ipv6,
        "labels": list(row.labels),
        "identity": row.identity,
        "state": state,
        "error": error,
        "policy": policy,
        "policyEnabled": _enabled(kernel),
        "options": {AUDIT_OPTION: "unknown" if kernel is None else "Enabled" if kernel.audit else "Disabled"},
        "policySet": 0 if kernel is None else kernel.policy_set,
    }


def _enforcement(enforced: bool, audited: bool) -> str:
    if not enforced:
        return "disabled"
    return "disabled (audit)" if audited else "enabled"


def _enabled(kernel: KernelEndpoint | None) -> str:
    """Return Cilium's word for both directions: none, ingress, egress, both, audit-ingress, ..."""
    if kernel is None:
        return "unknown"
    sides = [name for name in ("ingress", "egress") if getattr(kernel, f"{name}_enforced")]
    word = "both" if len(sides) > 1 else sides[0] if sides else "none"
    return f"audit-{word}" if kernel.audit and sides else word


def endpoint_detail(db: Database, policies: PolicyView, row: Endpoint) -> Object:
    """Return the endpoint, how far the datapath is with it, and which policy it is judged by."""
    table = db.table(KERNEL_ENDPOINTS)
    datapath = {"state": "pending", "error": "", "ifindex": row.ifindex, "hostMAC": row.host_mac}
    if row.id in table:
        status = table.status(row.id)
        datapath |= {"state": status.state, "error": status.error}
    detail = endpoint(db, row) | {"generation": row.generation, "datapath": datapath}
    detail["policy"] |= endpoint_policy(db, policies, row)
    return detail


def identity(db: Database, row: Identity) -> Object:
    return {
        "id": row.id,
        "labels": list(row.labels),
        "reserved": row.reserved,
        "endpoints": len(db.table(ENDPOINTS).by("identity", row.id)),
    }


def identity_detail(db: Database, row: Identity) -> Object:
    """Return the identity, the endpoints of this node that have it, and the addresses of the whole cluster."""
    pods = sorted(f"{each.namespace}/{each.pod}" for each in db.table(ENDPOINTS).by("identity", row.id))
    addresses = sorted(each.prefix for each in db.table(IPCACHE).by("identity", row.id))
    return identity(db, row) | {"pods": pods, "addresses": addresses}


def policy(db: Database, policies: PolicyView, row: Policy) -> Object:
    """Return the policy; `state` is error or pending as long as the datapath has not all of it, `message` says why."""
    table = db.table(POLICIES)
    status = table.status((row.kind, row.namespace, row.name))
    state = "stale" if row.stale else "partial" if row.notices else "in-force"
    directions = sorted({rule.direction for rule in row.rules})
    return {
        "kind": row.kind,
        "namespace": row.namespace,
        "name": row.name,
        "state": state if status.state == "done" else status.state,
        "message": status.error,
        "directions": [Direction(direction).name.lower() for direction in directions],
        "rules": len(row.rules),
        "notices": list(row.notices),
        "origin": row.origin,
        "version": row.version,
        "endpoints": _selected(db, policies, row),
    }


def _selected(db: Database, policies: PolicyView, row: Policy) -> list[int]:
    identities = policies.subjects_of(row.kind, row.namespace, row.name)
    return sorted(each.id for identity in identities for each in db.table(ENDPOINTS).by("identity", identity))


def policy_detail(db: Database, policies: PolicyView, row: Policy) -> Object:
    """Return the policy with its rules as the agent has understood them, and the endpoints of this node it selects."""
    return policy(db, policies, row) | {"rules": [rule(each) for each in row.rules]}


def rule(row: Rule) -> Object:
    """Return a rule; `peers` or `ports` null is all of them, empty is none."""
    return {
        "path": row.path,
        "direction": Direction(row.direction).name.lower(),
        "verdict": Verdict(row.verdict).name.lower(),
        "tier": Tier(row.tier).name.lower(),
        "priority": row.priority,
        "subject": str(row.subject),
        "peers": None if row.peers is None else [str(peer) for peer in row.peers],
        "ports": None if row.ports is None else [_ports(each) for each in row.ports],
        "proxy": row.proxy.summary if row.proxy else "",
        "log": row.log,
        "defaultDeny": row.default_deny,
    }


def _ports(covered: PortRange | NamedPort) -> Object:
    if isinstance(covered, NamedPort):
        return {"protocol": covered.protocol, "name": covered.name}
    return {"protocol": covered.protocol, "first": covered.first, "last": covered.last}


def node(row: Node) -> Object:
    return {
        "name": row.name,
        "cluster": row.cluster,
        "internalIPs": list(row.internal_ips),
        "routerIPs": list(row.router_ips),
        "podCIDRs": list(row.pod_cidrs),
        "labels": dict(row.labels),
    }


def ipcache_entry(db: Database, row: IPCacheEntry) -> Object:
    known = db.table(IDENTITIES).get(row.identity)
    return {
        "prefix": row.prefix,
        "identity": row.identity,
        "labels": list(known.labels) if known else [],
        "tunnel": row.tunnel,
        "flags": row.flags,
        "source": row.source,
        "namespace": row.namespace,
        "pod": row.pod,
        "hostNode": row.node,
    }
