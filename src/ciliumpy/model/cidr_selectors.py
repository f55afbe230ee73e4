# SPDX-License-Identifier: Apache-2.0
"""Prefixes as policies write them, and the selectors of what is behind them."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ciliumpy.model import entities
from ciliumpy.model.cidr import CIDR_GROUP, GROUP_NAME, WORLDS, key_of
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import as_text
from ciliumpy.model.identity import world
from ciliumpy.model.selectors import CIDR, NOBODY, Operator, Requirement, Selector, exists, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.model.options import PolicyOptions

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)


def parse_prefix(value: Any, path: Path) -> Network:
    """The prefix that a text is; bits beyond its length are dropped. FieldError for a bare address, a mask, a range."""
    text = as_text(value, path)
    address, slash, length = text.partition("/")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise FieldError(path, _not_an_address(text)) from None
    if "%" in address:
        raise FieldError(path, f"{text[:80]!r} has a zone: a prefix has none")
    if not slash:
        raise FieldError(
            path, f"{text!r} has no prefix length: write {text}/{parsed.max_prefixlen} for the one address"
        )
    if not _LENGTH.fullmatch(length) or int(length) > parsed.max_prefixlen:
        raise FieldError(
            path, f"{text[:80]!r} is not a CIDR: the length after / must be a number from 0 to {parsed.max_prefixlen}"
        )
    return ipaddress.ip_network((parsed, int(length)), strict=False)


def _not_an_address(text: str) -> str:
    said = f"{text[:80]!r} is not a CIDR"
    if "-" in text:
        return f"{said}: a range is written as the prefixes that it consists of"
    if text in entities.NAMES:
        return f"{said}: entities stand in fromEntities or toEntities"
    if "." in text and re.search(r"[g-zG-Z]", text):
        return f"{said}: DNS names stand in toFQDNs"
    return f"{said}: write an address and a prefix length, as 10.0.0.0/8"


def check_within(hole: Network, outer: Network, path: Path) -> None:
    """Raise FieldError for an exception that is not part of its prefix."""
    if hole.version != outer.version:
        raise FieldError(path, f"{hole} is IPv{hole.version}, but {outer} is IPv{outer.version}")
    if not hole.subnet_of(outer):  # type: ignore[arg-type]
        raise FieldError(path, f"{hole} is not part of {outer}")


def outside(network: Network, holes: Iterable[Network], options: PolicyOptions) -> Selector:
    """Who is in a prefix but in none of the holes.

    An address that no policy names a prefix of has no label of one. Therefore the prefix of all addresses means their
    family's world too.
    """
    holes = list(holes)
    if network in holes:
        return NOBODY
    without = [Requirement(CIDR, key_of(str(hole)), Operator.DOES_NOT_EXIST) for hole in holes]
    found = [[exists(CIDR, key_of(str(network))), *without]]
    if not network.prefixlen and (options.ipv4 if network.version == 4 else options.ipv6):
        name = world(ipv6_address=network.version == 6, ipv4=options.ipv4, ipv6=options.ipv6).label
        found.append([exists("reserved", name), *without])
    return one_of(found)


def group(name: str, holes: Iterable[Network] = ()) -> Selector:
    """Who is in a prefix of the CiliumCIDRGroup of that name, but in none of the holes."""
    return in_groups([exists(CIDR_GROUP, GROUP_NAME + name)], holes)


def in_groups(requirements: Iterable[Requirement], holes: Iterable[Network] = ()) -> Selector:
    """Who is in a prefix of a group whose labels meet the requirements, but in none of the holes.

    Where all requirements are that a label is absent, every outside address meets them that is in no group with the
    label, also one in no group at all; who is inside the cluster does not.
    """
    requirements = list(requirements)
    without = [Requirement(CIDR, key_of(str(hole)), Operator.DOES_NOT_EXIST) for hole in holes]
    if any(r.source == CIDR_GROUP and r.operator in (Operator.IN, Operator.EXISTS) for r in requirements):
        return one_of([[*requirements, *without]])
    return one_of([exists("reserved", name), *requirements, *without] for name in sorted(WORLDS))
