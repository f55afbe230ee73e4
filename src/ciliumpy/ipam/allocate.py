# SPDX-License-Identifier: Apache-2.0
"""Addresses out of a pod CIDR, and pod CIDRs out of the cluster's pool. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def router_address(cidr: str) -> str:
    """Return the address that pods of `cidr` have as their gateway: its first usable one."""
    return str(ipaddress.ip_network(cidr)[1])


class Pool:
    """The addresses of one pod CIDR.

    An address is given out in turn, starting after the last one; a freed one therefore rests for a whole round.
    """

    def __init__(self, cidr: str, in_use: Iterable[str] = ()) -> None:
        self.network: Network = ipaddress.ip_network(cidr)
        if self.network.num_addresses < 4:
            raise CiliumpyError(f"pod CIDR {cidr} is too small", "give a node at least a /30, or a /126 for IPv6")
        self.router: Address = self.network[1]
        self._used: set[Address] = set()
        self._next = 2
        for text in in_use:
            self.take(text)

    @property
    def total(self) -> int:
        """How many addresses can be given out."""
        return self.network.num_addresses - (3 if self.network.version == 4 else 2)

    @property
    def allocated(self) -> int:
        return len(self._used)

    def take(self, text: str) -> None:
        """Mark an address as in use, as a restored endpoint has it; one of another CIDR is ignored."""
        address = ipaddress.ip_address(text)
        if address in self.network:
            self._used.add(address)
            self._next = max(self._next, int(address) - int(self.network.network_address) + 1)

    def allocate(self) -> str:
        """Return an address that nobody has. CiliumpyError: the pool is empty."""
        if self.allocated >= self.total:
            raise CiliumpyError(
                f"no address is left in pod CIDR {self.network}",
                f"all {self.total} are in use by endpoints of this node: delete pods, or give nodes larger pod CIDRs",
            )
        end = self.network.num_addresses - (1 if self.network.version == 4 else 0)
        while True:
            if self._next >= end:
                self._next = 2
            address = self.network[self._next]
            self._next += 1
            if address not in self._used:
                self._used.add(address)
                return str(address)

    def release(self, text: str) -> None:
        """Give an address back; an unknown one is ignored."""
        self._used.discard(ipaddress.ip_address(text))


def choose_cidr(pool: str, mask: int, taken: Collection[str]) -> str:
    """Return the first prefix of length `mask` in `pool` that overlaps none of `taken`. CiliumpyError: none is left."""
    network: Network = ipaddress.ip_network(pool)
    if mask < network.prefixlen or mask > network.max_prefixlen:
        raise CiliumpyError(
            f"a node's mask size /{mask} does not fit into the pool {pool}",
            f"ipam.nodeMaskSizes wants a number from {network.prefixlen} to {network.max_prefixlen} here",
        )
    size = 1 << (network.max_prefixlen - mask)
    base, end = int(network.network_address), int(network.network_address) + network.num_addresses
    busy = sorted(
        (int(other.network_address), int(other.broadcast_address))
        for other in map(ipaddress.ip_network, taken)
        if other.version == network.version
    )
    candidate = base
    for first, last in busy:
        if candidate + size <= first:
            break
        if last >= candidate:
            candidate = base + (last - base + size) // size * size
    if candidate + size > end:
        raise CiliumpyError(
            f"no /{mask} is left in the cluster's pool {pool} for this node",
            "delete nodes that are gone (`ciliumpy node delete`), or widen ipam.clusterPodCIDRs",
        )
    return f"{network[candidate - base]}/{mask}"
