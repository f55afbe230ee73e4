# SPDX-License-Identifier: Apache-2.0
"""Peers of a CiliumNetworkPolicy's rule: endpoints, entities, nodes, services, DNS names, groups of a cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model import entities
from ciliumpy.model.cnp_cidr import decode_cidr_set, decode_cidrs
from ciliumpy.model.cnp_dns import decode_dns_name
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, as_text, meant
from ciliumpy.model.label_selectors import node_peers, peer_selector
from ciliumpy.model.rule import ServicePeer
from ciliumpy.model.selectors import Selector, all_of, exists
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ciliumpy.model.cnp_scope import Scope

Items = list[tuple[Any, Path]]
Peers = list[Selector | ServicePeer]
FQDN = "fqdn"  # the source of labels of addresses that are answers for a DNS name
_AS_IF_ABSENT = ("Groups", "Services")  # in Cilium, where they are empty: denied is anybody; allowed, here, nobody
_SERVICE_HINTS = dict.fromkeys(
    ("name", "serviceName", "namespace"), "unknown field: write k8sService: {serviceName: ..., namespace: ...}"
)
_MEANT = {
    "apiserver": "kube-apiserver",
    "external": "world",
    "internet": "world",
    "localhost": "host",
    "node": "host or remote-node",
    "nodes": "host or remote-node",
    "outside": "world",
    "pod": "cluster",
    "pods": "cluster",
    "any": "all",
    "everything": "all",
}


def decode_peers(rule: Fields, scope: Scope) -> tuple[Selector | ServicePeer, ...] | None:
    """The rule's peers; None where it names no kind of peer at all."""
    prefix = scope.prefix
    decoders = dict(_DECODERS)
    if scope.direction is Direction.EGRESS:
        decoders["Services"] = _services
        if not scope.deny:
            decoders["FQDNs"] = _fqdns
    if rule.items(prefix + "Requires"):
        raise FieldError(rule.at(prefix + "Requires"), f"is no longer part of the language: use {prefix}Endpoints")
    lists = {prefix + kind: rule.items(prefix + kind) for kind in decoders}
    present = [name for name, items in lists.items() if items is not None]
    filled = [name for name in present if lists[name]]
    if len(filled) > 1:
        raise FieldError(rule.at(filled[1]), f"cannot stand beside {filled[0]}: write two rules, one for each")
    if not present:
        return None
    found: Peers = []
    for name in filled:
        found += decoders[name.removeprefix(prefix)](lists[name] or [], rule.at(name), scope)
    empty = [name for name in present if not lists[name]]
    if empty and filled:
        return _beside_an_empty_list(tuple(dict.fromkeys(found)), rule.at(empty[0]), scope)
    if scope.deny and not filled and all(name.removeprefix(prefix) in _AS_IF_ABSENT for name in empty):
        return None
    return tuple(dict.fromkeys(found))


def _beside_an_empty_list(
    found: tuple[Selector | ServicePeer, ...], path: Path, scope: Scope
) -> tuple[Selector | ServicePeer, ...]:
    """An empty list is nobody, also beside another; but a deny rule does not lose by it whom it names."""
    if scope.deny:
        scope.notice(path, "is empty and has no effect beside the other peers: they are denied")
        return found
    scope.notice(path, "is empty: the rule is for nobody, whatever peers stand beside it")
    return ()


def _endpoints(items: Items, _: Path, scope: Scope) -> Peers:
    return [
        peer_selector(scope.selector(value, at), scope.namespace, scope.options.cluster, init=scope.init)
        for value, at in items
    ]


def _entities(items: Items, _: Path, scope: Scope) -> Peers:
    found: Peers = []
    for value, path in items:
        name = as_text(value, path)
        if name not in entities.NAMES:
            raise FieldError(path, f"unknown entity {name[:80]!r}{_which(name)}")
        found.append(entities.entity(name, scope.options.cluster))
    return found


def _which(name: str) -> str:
    plain = name.removeprefix("reserved:").lower()
    known = _MEANT.get(plain) or (plain if plain in entities.NAMES else "")
    close = f", did you mean {known}?" if known else meant(plain, entities.NAMES)
    return close or f": use one of {', '.join(sorted(entities.NAMES))}"


def _nodes(items: Items, path: Path, scope: Scope) -> Peers:
    if not scope.options.node_selector_labels:
        raise FieldError(path, "needs node labels in identities, which are off: set policy.nodeSelectorLabels")
    return [node_peers(scope.selector(value, at)) for value, at in items]


def _fqdns(items: Items, path: Path, scope: Scope) -> Peers:
    scope.notice(path, "selects nobody: there is no DNS proxy yet that would see the answers")
    names = [decode_dns_name(Fields(value, at)) for value, at in items]
    return [all_of(exists(FQDN, name.lower().rstrip(".") or ".")) for name in names]


def _groups(items: Items, path: Path, scope: Scope) -> Peers:
    for value, at in items:
        fields = Fields(value, at)
        aws = fields.fields("aws")
        if aws is not None:
            labels = aws.fields("labels") or Fields({}, aws.at("labels"))
            for key in labels.names():
                labels.text(key)
            for name in ("securityGroupsIds", "securityGroupsNames"):
                for entry, where in aws.items(name) or ():
                    as_text(entry, where)
            aws.text("region")
            aws.finish()
        fields.finish()
    scope.closed = True
    if scope.deny:
        scope.notice(path, "the addresses of cloud groups are not known here: all the world is denied instead")
        return [entities.entity("world", scope.options.cluster)]
    scope.notice(path, "the addresses of cloud groups are not known here: grants nothing")
    return []


def _services(items: Items, _: Path, scope: Scope) -> Peers:
    found: Peers = []
    for value, at in items:
        fields = Fields(value, at)
        named, chosen = fields.fields("k8sService"), fields.fields("k8sServiceSelector")
        if chosen is not None:
            found += _chosen(chosen, scope, counts=named is None)
        if named is not None:
            found += _named(named, scope)
        fields.finish(_SERVICE_HINTS)
        if named is None and chosen is None:
            scope.notice(at, "names no service: it needs k8sService or k8sServiceSelector")
        elif named is not None and chosen is not None:
            scope.notice(at, "k8sServiceSelector has no effect beside k8sService")
    return found


def _named(fields: Fields, scope: Scope) -> Peers:
    name, namespace = fields.text("serviceName") or "", fields.text("namespace") or ""
    fields.finish({"name": "unknown field, did you mean serviceName?"})
    if not name:
        scope.notice(fields.path, "names no service: serviceName is missing")
        return []
    return [ServicePeer(namespace, name=name)]


def _chosen(fields: Fields, scope: Scope, *, counts: bool) -> Peers:
    namespace = fields.text("namespace") or ""
    selector = fields.get("selector")
    fields.finish({"matchLabels": "unknown field: write selector: {matchLabels: ...}"})
    if selector is None:
        raise FieldError(fields.at("selector"), "is missing: write {} to select every service")
    labels = all_of(*scope.selector(selector, fields.at("selector")))
    return [ServicePeer(namespace, labels=labels)] if counts else []


_DECODERS: Mapping[str, Callable[[Items, Path, Scope], Peers]] = {
    "Endpoints": _endpoints,
    "Entities": _entities,
    "CIDR": decode_cidrs,
    "CIDRSet": decode_cidr_set,
    "Nodes": _nodes,
    "Groups": _groups,
}
