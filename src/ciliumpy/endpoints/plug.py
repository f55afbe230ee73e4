# SPDX-License-Identifier: Apache-2.0
"""The devices of an endpoint: made closed and down, filled, opened by the datapath when its rows are in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.endpoints.attachment import Pair, Seen, pair
from ciliumpy.net import addresses, links, netns, routes
from ciliumpy.net.pods import configure_pod

if TYPE_CHECKING:
    from ciliumpy.tables.endpoints import Endpoint


class Gateway(NamedTuple):
    """What a pod sees of its node: the router's address of each family (empty: none), and its MTU."""

    ipv4: str
    ipv6: str
    mtu: int


class Plug:
    """Makes and removes veth pairs. Every call takes some milliseconds: call it in a thread."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def create(self, endpoint: Endpoint, netns_fd: int) -> tuple[int, int]:
        """Make the pair, both sides down; return (ifindex, the pod's ifindex). CiliumpyError, and nothing is left."""
        return links.create_veth(
            endpoint.host_interface,
            netns_fd,
            endpoint.interface,
            mtu=self.gateway.mtu,
            host_mac=endpoint.host_mac,
            peer_mac=endpoint.mac,
        )

    def fill(self, endpoint: Endpoint, netns_fd: int) -> None:
        """Give the pod's side its addresses and routes, and bring it up: it has no carrier until the node's side is."""
        configure_pod(
            netns_fd,
            endpoint.interface,
            endpoint.ipv4 or None,
            endpoint.ipv6 or None,
            self.gateway.ipv4 or None,
            self.gateway.ipv6 or None,
            self.gateway.mtu,
        )

    def remove(self, host_interface: str) -> None:
        """Remove the pair; one that is gone is no error."""
        links.delete(host_interface)

    def find(self, interface: str, netns_fd: int) -> Pair:
        """Return the pair that another plugin made. CannotTakeOverError: it is none whose other end is here."""
        inner = netns.run_in(netns_fd, links.link, interface)
        outer = links.link(inner.peer) if inner is not None and inner.peer else None
        if outer is not None and outer.peer_netns != netns.number_of(netns_fd):
            outer = None  # a device that happens to have the number
        return pair(interface, inner, outer)

    def inspect(self, endpoint: Endpoint, netns_fd: int) -> Seen:
        """Return both sides as they are."""

        def inside() -> tuple[links.Link | None, list[str], list[routes.Route]]:
            inner = links.link(endpoint.interface)
            return inner, addresses.addresses(inner.ifindex) if inner else [], routes.routes()

        inner, present, routed = netns.run_in(netns_fd, inside)
        return Seen(links.link(endpoint.host_interface), inner, tuple(present), tuple(routed))

    def devices(self) -> dict[str, int]:
        """Return name and ifindex of every veth on this node."""
        return {link.name: link.ifindex for link in links.links() if link.kind == "veth"}

    def is_intact(self, endpoint: Endpoint) -> bool:
        """Tell whether the node's side is still the one that the endpoint was given."""
        found = links.link(endpoint.host_interface)
        return found is not None and found.ifindex == endpoint.ifindex and found.kind == "veth"
