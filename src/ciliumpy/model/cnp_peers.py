# SPDX-License-Identifier: Apache-2.0
"""Peers of a CiliumNetworkPolicy's rule: endpoints, entities, and the kinds that are checked but not yet supported."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from ciliumpy.model import entities
from ciliumpy.model.cnp_l7 import check_dns_name
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, as_text
from ciliumpy.model.label_selectors import decode_selector, peer_selector
from ciliumpy.model.selectors import EVERYBODY, Selector
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from ciliumpy.model.cnp_scope import Scope

Items = list[tuple[Any, Path]]


def decode_peers(rule: Fields, scope: Scope) -> tuple[Selector, ...] | None:
    """The rule's peers; None where it names no kind of peer at all."""
    prefix = "from" if scope.direction is Direction.INGRESS else "to"
    kinds = {
        "Endpoints": _endpoints,
        "Entities": _entities,
        "CIDR": _cidr,
        "CIDRSet": _cidr_set,
        "Nodes": _nodes,
        "Groups": _groups,
    }
    if scope.direction is Direction.EGRESS:
        kinds["Services"] = _services
        if not scope.deny:
            kinds["FQDNs"] = _fqdns
    if rule.items(prefix + "Requires"):
        raise FieldError(rule.at(prefix + "Requires"), "is no longer part of the language")
    lists = {prefix + kind: rule.items(prefix + kind) for kind in kinds}
    present = [name for name, items in lists.items() if items is not None]
    filled = [name for name in present if lists[name]]
    if len(filled) > 1:
        raise FieldError(rule.at(filled[1]), f"cannot stand beside {filled[0]}: one kind of peers in a rule")
    if not present:
        return None
    found: list[Selector] = []
    for name in filled:
        found += kinds[name.removeprefix(prefix)](lists[name] or [], rule.at(name), scope)
    return tuple(dict.fromkeys(found))


def _endpoints(items: Items, _: Path, scope: Scope) -> list[Selector]:
    return [peer_selector(decode_selector(value, at), scope.namespace, scope.cluster) for value, at in items]


def _entities(items: Items, _: Path, scope: Scope) -> list[Selector]:
    found = []
    for value, path in items:
        name = as_text(value, path)
        if name not in entities.NAMES:
            raise FieldError(path, f"unknown entity {name!r}: use one of {', '.join(sorted(entities.NAMES))}")
        found.append(entities.entity(name, scope.cluster))
    return found


def _cidr(items: Items, path: Path, scope: Scope) -> list[Selector]:
    for value, at in items:
        _prefix(value, at)
    return _outside(path, "a list of CIDRs", scope)


def _cidr_set(items: Items, path: Path, scope: Scope) -> list[Selector]:
    for value, at in items:
        fields = Fields(value, at)
        named = [name for name in ("cidr", "cidrGroupRef", "cidrGroupSelector") if fields.has(name)]
        if len(named) != 1:
            raise FieldError(at, "must have exactly one of cidr, cidrGroupRef and cidrGroupSelector")
        if fields.has("cidrGroupSelector"):
            decode_selector(fields.get("cidrGroupSelector"), fields.at("cidrGroupSelector"))
        fields.text("cidrGroupRef")
        network = _prefix(fields.get("cidr"), fields.at("cidr")) if fields.has("cidr") else None
        for hole, where in fields.items("except") or ():
            inner = _prefix(hole, where)
            if network and (inner.version != network.version or not inner.subnet_of(network)):  # type: ignore[arg-type]
                raise FieldError(where, f"{hole} is not part of {fields.get('cidr')}")
        fields.finish()
    return _outside(path, "a set of CIDRs", scope)


def _prefix(value: Any, path: Path) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    text = as_text(value, path)
    if "/" not in text:
        raise FieldError(path, f"{text!r} has no prefix length: write {text}/{128 if ':' in text else 32}")
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise FieldError(path, f"{text!r} is not a CIDR") from None


def _fqdns(items: Items, path: Path, scope: Scope) -> list[Selector]:
    for value, at in items:
        check_dns_name(Fields(value, at))
    return _outside(path, "a list of DNS names", scope)


def _nodes(_: Items, path: Path, __: Scope) -> list[Selector]:
    raise FieldError(path, "selecting nodes by their labels is not enabled")


def _groups(_: Items, path: Path, scope: Scope) -> list[Selector]:
    return _outside(path, "a list of cloud groups", scope)


def _services(_: Items, path: Path, scope: Scope) -> list[Selector]:
    wide = scope.unsupported(path, "a list of services", instead="everybody")
    return [EVERYBODY] if wide else []


def _outside(path: Path, what: str, scope: Scope) -> list[Selector]:
    """Peers outside the cluster that cannot be told apart yet."""
    wide = scope.unsupported(path, what, instead="the world is")
    return [entities.entity("world", scope.cluster)] if wide else []
