# SPDX-License-Identifier: Apache-2.0
"""Prefixes as labels: what the identity of an outside prefix is made of. Pure.

`cidr:10.0.0.0/8`, the world's label, and `cidrgroup:…` for every CIDR group that has a prefix which contains it: the
name, and each label of the group, both bare and with its value. In a label key a colon is a dash, and because keys
neither begin nor end with one, a zero stands before or after it: `::/0` is `cidr:0--0/0`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ciliumpy.model.identity import Reserved, world
from ciliumpy.model.labels import Label, texts
from ciliumpy.model.selectors import CIDR, network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CIDR_GROUP = "cidrgroup"  # the source of labels that prefixes have from their groups
GROUP_NAME = "io.cilium.policy.cidrgroupname/"
WORLDS = frozenset({Reserved.WORLD.label, Reserved.WORLD_IPV4.label, Reserved.WORLD_IPV6.label})

Network = tuple[int, int, int]  # version, address, length


def canonical(text: str) -> str:
    """Return the one text of a prefix, bits beyond its length cleared; an address is its own. ValueError."""
    return str(ipaddress.ip_network(text, strict=False))


def key_of(prefix: str) -> str:
    """Return the label key of a canonical prefix: `2001:db8::/32` -> `2001-db8--0/32`."""
    address, _, length = prefix.partition("/")
    if ":" in address:
        address = f"{'0' if address.startswith(':') else ''}{address}{'0' if address.endswith(':') else ''}"
    return f"{address.replace(':', '-')}/{length}"


class PrefixSet:
    """A set of prefixes, asked which of them contain one; that costs a look for each length that occurs."""

    def __init__(self) -> None:
        self._members: set[Network] = set()
        self._lengths: dict[tuple[int, int], int] = {}  # version and length -> how many members have it

    def add(self, member: Network) -> None:
        if member not in self._members:
            self._members.add(member)
            self._lengths[member[0], member[2]] = self._lengths.get((member[0], member[2]), 0) + 1

    def discard(self, member: Network) -> None:
        if member in self._members:
            self._members.discard(member)
            self._lengths[member[0], member[2]] -= 1
            if not self._lengths[member[0], member[2]]:
                del self._lengths[member[0], member[2]]

    def containing(self, prefix: str) -> Iterator[Network]:
        """Return the members that contain a prefix, itself included."""
        version, address, length = network(prefix)
        for family, shorter in self._lengths:
            if family == version and shorter <= length:
                bits = (32 if version == 4 else 128) - shorter
                member = (version, address >> bits << bits, shorter)
                if member in self._members:
                    yield member


class Groups:
    """CIDR groups by name, asked which labels a prefix has from them."""

    def __init__(self) -> None:
        self._prefixes: dict[str, tuple[Network, ...]] = {}
        self._having: dict[Network, dict[str, tuple[Label, ...]]] = {}
        self._all = PrefixSet()

    def set(self, name: str, labels: Mapping[str, str], prefixes: Iterable[str]) -> None:
        """Add a group or replace it. ValueError for a prefix that is none, and nothing has changed."""
        found = tuple(dict.fromkeys(network(canonical(prefix)) for prefix in prefixes))
        self.remove(name)
        own = (Label(CIDR_GROUP, GROUP_NAME + name), *_bare_and_valued(labels))
        self._prefixes[name] = found
        for each in found:
            self._all.add(each)
            self._having.setdefault(each, {})[name] = own

    def remove(self, name: str) -> None:
        for each in self._prefixes.pop(name, ()):
            del self._having[each][name]
            if not self._having[each]:
                del self._having[each]
                self._all.discard(each)

    def __contains__(self, prefix: str) -> bool:
        """Whether a group has exactly that prefix."""
        return network(prefix) in self._having

    def labels_of(self, prefix: str) -> Iterator[Label]:
        """Return the labels that a prefix has from all groups with a prefix that contains it."""
        for each in self._all.containing(prefix):
            for labels in self._having[each].values():
                yield from labels


def prefix_labels(
    prefix: str, groups: Groups | None = None, *, ipv4: bool = True, ipv6: bool = True
) -> tuple[str, ...]:
    """Return the labels of the identity that stands for the addresses of an outside prefix.

    `prefix` is canonical. With both families on, the world has a label in each.
    """
    outside = world(ipv6_address=":" in prefix, ipv4=ipv4, ipv6=ipv6)
    own = (Label(CIDR, key_of(prefix)), Label("reserved", outside.label))
    return texts((*own, *(groups.labels_of(prefix) if groups else ())))


def _bare_and_valued(labels: Mapping[str, str]) -> Iterator[Label]:
    for key, value in labels.items():
        yield Label(CIDR_GROUP, key)
        yield Label(CIDR_GROUP, key, value)
