# SPDX-License-Identifier: Apache-2.0
"""Verdicts by brute force: policy documents read as the reference words its rules, one packet at a time.

It shares nothing with the decoders and the compiler. An end is a pod, an outside address or a reserved entity.
Documents are taken to be valid; what it knows of the language is what `worlds` writes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NAMESPACE, SPACE_LABELS = "io.kubernetes.pod.namespace", "io.cilium.k8s.namespace.labels."
CLUSTER, ACCOUNT = "io.cilium.k8s.policy.cluster", "io.cilium.k8s.policy.serviceaccount"
TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
PROTOCOLS = {"TCP": (TCP,), "UDP": (UDP,), "SCTP": (SCTP,), "ANY": (TCP, UDP, SCTP)}
IN_CLUSTER = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
ADMIN, NORMAL, BASELINE = range(3)
STRENGTH = ("denied", "redirected", "allowed", "pass")

Labels = tuple[tuple[str, str, str], ...]  # source, key, value
Named = tuple[tuple[str, int, int], ...]  # name, protocol, number


@dataclass(frozen=True)
class End:
    """A pod has a namespace; an address its text; an entity only its labels."""

    labels: Labels
    namespace: str = ""
    space: tuple[tuple[str, str], ...] = ()  # labels of the namespace
    own: tuple[tuple[str, str], ...] = ()  # labels of the pod
    ports: Named = ()
    address: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(sorted(f"{s}:{k}={v}" if v else f"{s}:{k}" for s, k, v in self.labels))


def pod(namespace: str, space: dict[str, str], own: dict[str, str], ports: Named = (), account: str = "") -> End:
    labels = {("k8s", key, value) for key, value in own.items()}
    labels |= {("k8s", SPACE_LABELS + key, value) for key, value in space.items()}
    labels |= {("k8s", NAMESPACE, namespace), ("k8s", CLUSTER, "default")}
    labels |= {("k8s", ACCOUNT, account)} if account else set()
    return End(tuple(sorted(labels)), namespace, tuple(space.items()), tuple(own.items()), ports)


def outside(address: str) -> End:
    world = "world-ipv6" if ":" in address else "world-ipv4"
    return End((("reserved", world, ""),), address=address)


def entity(name: str) -> End:
    names = {name, "remote-node"} if name == "kube-apiserver" else {name}
    return End(tuple(sorted(("reserved", each, "") for each in names)))


def verdict(
    documents: list[dict[str, Any]],
    subject: End,
    peer: End,
    *,
    ingress: bool,
    protocol: int,
    port: int,
    mode: str = "default",
) -> str:
    """`allowed`, `denied` or `redirected`, at the subject, which is a pod."""
    if mode == "never":
        return "allowed"
    direction = "ingress" if ingress else "egress"
    rules = [rule for document in documents for rule in _rules(document, subject, direction)]
    if not rules and mode == "default":
        return "allowed"
    for tier in (ADMIN, NORMAL, BASELINE):
        met = [
            (rule.level, STRENGTH.index(rule.verdict))
            for rule in rules
            if rule.tier == tier and rule.meets(subject, peer, ingress=ingress, protocol=protocol, port=port)
        ]
        if met and STRENGTH[min(met)[1]] != "pass":
            return STRENGTH[min(met)[1]]
    if mode != "always" and not any(rule.closes for rule in rules):
        return "allowed"
    from_host = ingress and ("reserved", "host", "") in peer.labels
    return "allowed" if from_host and rules else "denied"


@dataclass(frozen=True)
class _Rule:
    """One rule that is about the subject."""

    document: dict[str, Any]
    body: dict[str, Any]
    verdict: str
    closes: bool
    tier: int = NORMAL
    level: float = 0.0

    def meets(self, subject: End, peer: End, *, ingress: bool, protocol: int, port: int) -> bool:
        serving = subject if ingress else peer
        kind = self.document["kind"]
        side = "from" if ingress else "to"
        if kind == "NetworkPolicy":
            peers, ports = self.body.get(side), self.body.get("ports")
            near = self.document["metadata"]["namespace"]
            return (not peers or any(_kubernetes_peer(one, peer, near) for one in peers)) and (
                not ports or any(_kubernetes_port(one, serving, protocol, port) for one in ports)
            )
        if kind == "ClusterNetworkPolicy":
            ports = self.body.get("protocols")
            return any(_tier_peer(one, peer) for one in self.body[side]) and (
                not ports or any(_tier_port(one, serving, protocol, port) for one in ports)
            )
        near = self.document["metadata"].get("namespace")
        return self._cilium_peers(side, peer, near) and self._cilium_ports(serving, protocol, port)

    def _cilium_peers(self, side: str, peer: End, near: str | None) -> bool:
        present = [key for key in self.body if key.startswith(side) and key != "toPorts"]
        if not present:
            return bool(self.body.get("toPorts") or self.body.get("icmps"))
        return any(_cilium_peer(key.removeprefix(side), one, peer, near) for key in present for one in self.body[key])

    def _cilium_ports(self, serving: End, protocol: int, port: int) -> bool:
        if icmps := self.body.get("icmps"):
            fields = [field for one in icmps for field in one.get("fields", ())]
            return any(
                protocol == (ICMPV6 if field.get("family") == "IPv6" else ICMP) and field["type"] in (0, port)
                for field in fields
            )
        lists = self.body.get("toPorts")
        if not lists:
            return True
        return any(_cilium_port(one, serving, protocol, port) for entry in lists for one in entry.get("ports", ()))


def _rules(document: dict[str, Any], subject: End, direction: str) -> Iterator[_Rule]:
    """The rules of one direction that select the subject."""
    spec = document["spec"]
    match document["kind"]:
        case "NetworkPolicy":
            yield from _kubernetes_rules(document, spec, subject, direction)
        case "ClusterNetworkPolicy":
            about = spec["subject"]
            if _spaces(about["namespaces"], subject) if "namespaces" in about else _both(about["pods"], subject):
                words = {"Accept": "allowed", "Deny": "denied", "Pass": "pass"}
                tier = ADMIN if spec["tier"] == "Admin" else BASELINE
                for position, body in enumerate(spec.get(direction, ())):
                    level = spec["priority"] + position / 1000
                    yield _Rule(document, body, words[body["action"]], closes=False, tier=tier, level=level)
        case _:
            near = document["metadata"].get("namespace")
            if near in (None, subject.namespace) and _holds(spec["endpointSelector"], subject.labels):
                closes = spec.get("enableDefaultDeny", {}).get(direction) is not False
                for body in spec.get(direction) or ():
                    http = any(entry.get("rules", {}).get("http") for entry in body.get("toPorts") or ())
                    yield _Rule(document, body, "redirected" if http else "allowed", closes)
                for body in spec.get(direction + "Deny") or ():
                    yield _Rule(document, body, "denied", closes)


def _kubernetes_rules(document: dict[str, Any], spec: dict[str, Any], subject: End, direction: str) -> Iterator[_Rule]:
    own = tuple(("k8s", key, value) for key, value in subject.own)
    if subject.namespace != document["metadata"]["namespace"] or not _holds(spec["podSelector"], own):
        return
    bodies = spec.get(direction) or ()
    for body in bodies:
        yield _Rule(document, body, "allowed", closes=True)
    types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    if not bodies and direction.capitalize() in types:
        yield _Rule(document, {"from": [{"podSelector": _NOBODY}], "to": [{"podSelector": _NOBODY}]}, "allowed", True)


_NOBODY = {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "DoesNotExist"}]}


# Labels.


def _requirements(selector: dict[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    for key, value in selector.get("matchLabels", {}).items():
        yield (*_source(key), "In", (value,))
    for one in selector.get("matchExpressions", ()):
        yield (*_source(one["key"]), one["operator"], tuple(one.get("values", ())))


def _source(key: str) -> tuple[str, str]:
    source, colon, name = key.partition(":")
    return (source, name) if colon else ("any", key)


def _holds(selector: dict[str, Any], labels: Labels) -> bool:
    return all(_met(one, labels) for one in _requirements(selector))


def _met(requirement: tuple[str, str, str, tuple[str, ...]], labels: Labels) -> bool:
    source, key, operator, values = requirement
    found = [v for s, k, v in labels if k == key and source in ("any", s)]
    match operator:
        case "In":
            return any(value in values for value in found)
        case "NotIn":
            return not any(value in values for value in found)
        case "Exists":
            return bool(found)
        case _:
            return not found


def _spaces(selector: dict[str, Any], peer: End) -> bool:
    return bool(peer.namespace) and _holds(selector, tuple(("k8s", key, value) for key, value in peer.space))


def _both(pods: dict[str, Any], peer: End) -> bool:
    own = tuple(("k8s", key, value) for key, value in peer.own)
    return _spaces(pods["namespaceSelector"], peer) and _holds(pods["podSelector"], own)


# Peers.


def _cilium_peer(kind: str, one: Any, peer: End, near: str | None) -> bool:
    match kind:
        case "Endpoints":
            return _holds(one, peer.labels) and _in_scope(one, peer, near)
        case "CIDR":
            return _inside(one, peer)
        case "CIDRSet":
            return _inside(one["cidr"], peer) and not any(_inside(hole, peer) for hole in one.get("except", ()))
        case _:
            return _is(one, peer)


def _in_scope(selector: dict[str, Any], peer: End, near: str | None) -> bool:
    named = list(_requirements(selector))
    if any(source == "reserved" for source, *_ in named):
        return True
    keys = {key for source, key, *_ in named if source in ("k8s", "any")}
    if CLUSTER not in keys and ("k8s", CLUSTER, "default") not in peer.labels:
        return False
    if near is None:
        return NAMESPACE in keys or bool(peer.namespace)
    if NAMESPACE in keys or any(key.startswith(SPACE_LABELS) for key in keys):
        return True
    return peer.namespace == near


def _is(name: str, peer: End) -> bool:
    reserved = {key for source, key, _ in peer.labels if source == "reserved"}
    match name:
        case "all":
            return True
        case "none":
            return False
        case "world":
            return bool(reserved & {"world", "world-ipv4", "world-ipv6"})
        case "cluster":
            return bool(reserved & set(IN_CLUSTER)) or ("k8s", CLUSTER, "default") in peer.labels
        case _:
            return name in reserved


def _inside(prefix: str, peer: End) -> bool:
    return bool(peer.address) and ipaddress.ip_address(peer.address) in ipaddress.ip_network(prefix, strict=False)


def _kubernetes_peer(one: dict[str, Any], peer: End, near: str) -> bool:
    if block := one.get("ipBlock"):
        return _inside(block["cidr"], peer) and not any(_inside(hole, peer) for hole in block.get("except", ()))
    own = tuple(("k8s", key, value) for key, value in peer.own)
    where = _spaces(one["namespaceSelector"], peer) if "namespaceSelector" in one else peer.namespace == near
    return where and bool(peer.namespace) and _holds(one.get("podSelector", {}), own)


def _tier_peer(one: dict[str, Any], peer: End) -> bool:
    if "networks" in one:
        return any(_inside(prefix, peer) for prefix in one["networks"])
    return _both(one["pods"], peer) if "pods" in one else _spaces(one["namespaces"], peer)


# Ports.


def _covers(text: str, last: int, protocols: tuple[int, ...], serving: End, protocol: int, port: int) -> bool:
    if protocol not in protocols:
        return False
    if not text.isdecimal():
        return (text.lower(), protocol, port) in {(name.lower(), which, at) for name, which, at in serving.ports}
    first = int(text)
    return first == 0 or first <= port <= max(first, last)


def _cilium_port(one: dict[str, Any], serving: End, protocol: int, port: int) -> bool:
    protocols = PROTOCOLS[one.get("protocol", "ANY")]
    return _covers(one["port"], one.get("endPort", 0), protocols, serving, protocol, port)


def _kubernetes_port(one: dict[str, Any], serving: End, protocol: int, port: int) -> bool:
    protocols = PROTOCOLS[one.get("protocol", "TCP")]
    return _covers(str(one.get("port", 0)), one.get("endPort", 0), protocols, serving, protocol, port)


def _tier_port(one: dict[str, Any], serving: End, protocol: int, port: int) -> bool:
    [(name, inner)] = one.items()
    if name == "destinationNamedPort":
        return _covers(inner, 0, PROTOCOLS["ANY"], serving, protocol, port)
    wanted = inner.get("destinationPort")
    if protocol not in PROTOCOLS[name.upper()]:
        return False
    if wanted is None:
        return True
    if "number" in wanted:
        return port == wanted["number"]
    return wanted["range"]["start"] <= port <= wanted["range"]["end"]
