# SPDX-License-Identifier: Apache-2.0
"""Peers of a CiliumNetworkPolicy's rule that are prefixes: fromCIDR, toCIDR, and sets with exceptions and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model.cidr import CIDR_GROUP
from ciliumpy.model.cidr_selectors import check_within, group, in_groups, outside, parse_prefix
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields
from ciliumpy.model.label_selectors import of_source

if TYPE_CHECKING:
    from ciliumpy.model.cidr_selectors import Network
    from ciliumpy.model.cnp_scope import Scope
    from ciliumpy.model.rule import ServicePeer
    from ciliumpy.model.selectors import Selector

    Items = list[tuple[Any, Path]]
    Peers = list[Selector | ServicePeer]

_HINTS = {
    "ipBlock": "unknown field: write cidr and except",
    "exceptCIDRs": "unknown field, did you mean except?",
    "cidrGroup": "unknown field, did you mean cidrGroupRef?",
}
_KINDS = ("cidr", "cidrGroupRef", "cidrGroupSelector")


def decode_cidrs(items: Items, _: Path, scope: Scope) -> Peers:
    return [outside(parse_prefix(value, at), (), scope.options) for value, at in items]


def decode_cidr_set(items: Items, _: Path, scope: Scope) -> Peers:
    return [_entry(Fields(value, at), scope) for value, at in items]


def _entry(fields: Fields, scope: Scope) -> Selector:
    prefix, name = fields.text("cidr"), fields.text("cidrGroupRef")
    chosen = fields.get("cidrGroupSelector")
    named = [kind for kind, value in zip(_KINDS, (prefix, name, chosen), strict=True) if value not in (None, "")]
    fields.get("except")
    fields.finish(_HINTS)
    if not named:
        raise FieldError(fields.path, f"must have one of {', '.join(_KINDS)}")
    if len(named) > 1:
        raise FieldError(fields.at(named[1]), f"cannot stand beside {named[0]}: write two entries")
    network = parse_prefix(prefix, fields.at("cidr")) if prefix else None
    holes = _holes(fields, network)
    if network:
        return outside(network, holes, scope.options)
    if name:
        return group(name, holes)
    requirements = scope.selector(chosen, fields.at("cidrGroupSelector"))
    return in_groups(of_source(CIDR_GROUP, requirements), holes)


def _holes(fields: Fields, network: Network | None) -> list[Network]:
    holes = []
    for value, where in fields.items("except") or ():
        hole = parse_prefix(value, where)
        if network is not None:
            check_within(hole, network, where)
        holes.append(hole)
    return holes
