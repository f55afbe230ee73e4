# SPDX-License-Identifier: Apache-2.0
"""Which identity an address has, derived from nodes and endpoints. Pure."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.tables.ipcache import IPCacheEntry

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from ciliumpy.tables.endpoints import Endpoint
    from ciliumpy.tables.source import EndpointObject, Node, Pod

# Reserved identities, as everywhere in the field.
HOST = 1
WORLD = 2
UNMANAGED = 3
REMOTE_NODE = 6
WORLD_IPV4 = 9
WORLD_IPV6 = 10

# enum ipcache_flags of bpf/c/layout.h
FLAG_TUNNEL = 1
FLAG_HOST = 2
FLAG_NODE = 4


class Trust(IntEnum):
    """Whose word counts where two sources name one prefix: the lower wins."""

    OWN_NODE = 0
    OWN_ENDPOINT = 1
    NODE = 2
    ENDPOINT = 3
    UNMANAGED = 4
    POD_CIDR = 5
    CIDR = 6
    WORLD = 7


class Claim(NamedTuple):
    trust: Trust
    entry: IPCacheEntry


class Families(NamedTuple):
    """Which families the cluster's pods have; with both, the world has an identity in each. And the tunnel's own."""

    ipv4: bool = True
    ipv6: bool = True
    underlay: int = 4

    def has(self, prefix: str) -> bool:
        return self.ipv6 if ":" in prefix else self.ipv4

    def world(self, prefix: str) -> int:
        if not (self.ipv4 and self.ipv6):
            return WORLD
        return WORLD_IPV6 if ":" in prefix else WORLD_IPV4


def host_prefix(address: str) -> str:
    """`10.0.0.1` -> `10.0.0.1/32`, `fd00::1` -> `fd00::1/128`."""
    return f"{ipaddress.ip_address(address)}/{128 if ':' in address else 32}"


def world_claims(families: Families) -> Iterator[Claim]:
    for wanted, prefix in ((families.ipv4, "0.0.0.0/0"), (families.ipv6, "::/0")):
        if wanted:
            yield Claim(Trust.WORLD, IPCacheEntry(prefix, families.world(prefix), source="reserved"))


def own_node_claims(name: str, addresses: Iterable[str]) -> Iterator[Claim]:
    """Every address of this node, the routers' included: the host."""
    for address in addresses:
        entry = IPCacheEntry(host_prefix(address), HOST, flags=FLAG_HOST, source="node", node=name)
        yield Claim(Trust.OWN_NODE, entry)


def node_claims(node: Node, families: Families, identity: int = REMOTE_NODE) -> Iterator[Claim]:
    """Return what another node's object says: its addresses, its routers' and pod CIDRs behind the tunnel.

    Its own addresses name the tunnel too: pods go that way to the node itself, with their identity. Natively it would
    refuse them, for there a pod's address is nobody's.
    """
    tunnel = tunnel_address(node, families.underlay)
    for address in node.internal_ips:
        entry = IPCacheEntry(host_prefix(address), identity, tunnel, FLAG_NODE, source="node", node=node.name)
        yield Claim(Trust.NODE, entry)
    if not tunnel:
        return
    for address in node.router_ips:
        entry = IPCacheEntry(host_prefix(address), identity, tunnel, FLAG_TUNNEL, source="node", node=node.name)
        yield Claim(Trust.NODE, entry)


def pod_cidr_claims(node: Node, own: str, families: Families) -> Iterator[Claim]:
    """Return what is in a node's pod CIDRs besides its pods: nobody, which is the world, behind the node's tunnel.

    What no endpoint has goes to that node all the same: it must not leave by the default route. Of the `own` node's
    there is no tunnel, and the row is there all the same: no CIDR that a policy names reaches into the pods' addresses.
    """
    tunnel = "" if node.name == own else tunnel_address(node, families.underlay)
    for prefix in (str(ipaddress.ip_network(cidr)) for cidr in node.pod_cidrs):
        flags = FLAG_TUNNEL if tunnel else 0
        entry = IPCacheEntry(prefix, families.world(prefix), tunnel, flags, source="node", node=node.name)
        yield Claim(Trust.POD_CIDR, entry)


def tunnel_address(node: Node, underlay: int = 4) -> str:
    """Return where packets for the node's pods are sent: its first internal address of that family, if it has one."""
    return next((a for a in node.internal_ips if (":" in a) == (underlay == 6)), next(iter(node.internal_ips), ""))


def endpoint_claims(endpoint: Endpoint) -> Iterator[Claim]:
    if not endpoint.identity:
        return
    for address in (endpoint.ipv4, endpoint.ipv6):
        if address:
            entry = IPCacheEntry(
                host_prefix(address),
                endpoint.identity,
                source="endpoint",
                namespace=endpoint.namespace,
                pod=endpoint.pod,
            )
            yield Claim(Trust.OWN_ENDPOINT, entry)


def endpoint_object_claims(endpoint: EndpointObject, node: Node | None, underlay: int = 4) -> Iterator[Claim]:
    """Return what another node's endpoint says. Its node must be known, and the address in that node's pod CIDRs.

    An object can be written by whoever may write the store; it must not take an address that its node does not own.
    """
    if node is None or not endpoint.identity:
        return
    tunnel = tunnel_address(node, underlay)
    cidrs = [ipaddress.ip_network(cidr) for cidr in node.pod_cidrs]
    for address in endpoint.ips:
        if tunnel and any(ipaddress.ip_address(address) in cidr for cidr in cidrs):
            entry = IPCacheEntry(
                host_prefix(address),
                endpoint.identity,
                tunnel,
                FLAG_TUNNEL,
                source="endpoint",
                namespace=endpoint.namespace,
                pod=endpoint.name,
                node=endpoint.node,
            )
            yield Claim(Trust.ENDPOINT, entry)


def unmanaged_claims(pod: Pod, own: str, nodes: Mapping[str, Node], underlay: int = 4) -> Iterator[Claim]:
    """Return what a pod's status says of a pod that nobody has plugged in: it is there, and nobody guards it.

    Its node must be known, and no address may be of another node's pod CIDR. What a node or an endpoint says of the
    address counts more.
    """
    node = nodes.get(pod.node)
    if node is None or pod.host_network:
        return
    for address in pod.ips:
        owner = next((name for name, each in nodes.items() if _holds(each, address)), "")
        if owner in ("", pod.node):
            tunnel = tunnel_address(node, underlay) if owner and owner != own else ""
            entry = IPCacheEntry(
                host_prefix(address),
                UNMANAGED,
                tunnel,
                FLAG_TUNNEL if tunnel else 0,
                source="pod",
                namespace=pod.namespace,
                pod=pod.name,
                node=pod.node,
            )
            yield Claim(Trust.UNMANAGED, entry)


def _holds(node: Node, address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr) for cidr in node.pod_cidrs)


class Claims:
    """All claims by their source, and the winner of each prefix."""

    def __init__(self) -> None:
        self._by_source: dict[Hashable, tuple[Claim, ...]] = {}
        self._by_prefix: defaultdict[str, dict[Hashable, Claim]] = defaultdict(dict)

    def replace(self, source: Hashable, claims: Iterable[Claim]) -> set[str]:
        """Set what `source` claims, nothing to forget it; return the prefixes whose winner may be another now."""
        new = tuple(claims)
        old = self._by_source.pop(source, ())
        if new:
            self._by_source[source] = new
        if new == old:
            return set()
        for claim in old:
            self._by_prefix[claim.entry.prefix].pop(source, None)
        for claim in new:
            self._by_prefix[claim.entry.prefix][source] = claim
        return {claim.entry.prefix for claim in (*old, *new)}

    def of(self, source: Hashable) -> tuple[Claim, ...]:
        """Return what `source` claims."""
        return self._by_source.get(source, ())

    def winner(self, prefix: str) -> IPCacheEntry | None:
        """Return the row of a prefix: the most trusted claim, the first source in order among equals."""
        claims = self._by_prefix.get(prefix)
        if not claims:
            self._by_prefix.pop(prefix, None)
            return None
        return min(claims.items(), key=lambda item: (item[1].trust, repr(item[0])))[1].entry
