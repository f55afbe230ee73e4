# SPDX-License-Identifier: Apache-2.0
"""Which prefixes policies name, and what an address is labelled with because of them. Pure.

Every prefix that a policy in force names has an identity on a node, also one that is only an exception from another,
and so has every prefix of a CIDR group. An address belongs to the longest of them that contains it.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING

from ciliumpy.model.cidr import key_of, prefix_labels
from ciliumpy.model.identity import reserved_labels, world
from ciliumpy.model.labels import Label, texts
from ciliumpy.model.selectors import CIDR, Selector, network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ciliumpy.model.cidr import Groups
    from ciliumpy.model.rule import Rule

_FAMILIES = {4: ipaddress.IPv4Network, 6: ipaddress.IPv6Network}


def named_by(rules: Iterable[Rule]) -> set[str]:
    """Return the prefixes that rules name, canonical."""
    peers = {peer for rule in rules for peer in rule.peers or () if isinstance(peer, Selector)}
    return {prefix for peer in peers for prefix in in_selector(peer)}


def in_selector(selector: Selector) -> set[str]:
    """Return the prefixes that a selector names, canonical. What is written like one and is none selects nobody."""
    found = set()
    for conjunction in selector.alternatives:
        for requirement in conjunction:
            if requirement.source == CIDR:
                with contextlib.suppress(ValueError):
                    found.add(prefix_of(requirement.key))
    return found


def prefix_of(key: str) -> str:
    """Return the canonical prefix of a label's key: `2001-db8--0/32` -> `2001:db8::/32`. ValueError."""
    version, address, length = network(key)
    return str(_FAMILIES[version]((address, length)))


class Longest:
    """Prefixes, asked which is the longest that contains an address; that costs a look for each length that occurs."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._prefixes: dict[tuple[int, int], dict[int, str]] = {}  # version and length -> address -> prefix
        for prefix in prefixes:
            version, address, length = network(prefix)
            self._prefixes.setdefault((version, length), {})[address] = prefix
        self._lengths = sorted(self._prefixes, reverse=True)

    def of(self, address: str) -> str | None:
        """Return the prefix; None where none contains the address. ValueError for a text that is no address."""
        parsed = ipaddress.ip_address(address)
        for version, length in self._lengths:
            if version == parsed.version:
                bits = parsed.max_prefixlen - length
                found = self._prefixes[version, length].get(int(parsed) >> bits << bits)
                if found is not None:
                    return found
        return None


def outside_labels(
    address: str, named: Longest, groups: Groups | None = None, *, ipv4: bool = True, ipv6: bool = True
) -> tuple[str, ...]:
    """Return the identity labels of an address outside the cluster, canonical."""
    prefix = named.of(address)
    if prefix is None:
        return reserved_labels(world(ipv6_address=":" in address, ipv4=ipv4, ipv6=ipv6))
    return prefix_labels(prefix, groups, ipv4=ipv4, ipv6=ipv6)


def inside_labels(addresses: Iterable[str], named: Longest, groups: Groups | None = None) -> tuple[str, ...]:
    """Return the labels that a pod or node gets besides its own, where CIDRs match it too: of each of its addresses."""
    return texts(_inside(addresses, named, groups))


def _inside(addresses: Iterable[str], named: Longest, groups: Groups | None) -> Iterator[Label]:
    for address in addresses:
        prefix = named.of(address)
        if prefix is not None:
            yield Label(CIDR, key_of(prefix))
            if groups is not None:
                yield from groups.labels_of(prefix)
