# SPDX-License-Identifier: Apache-2.0
"""The node's own devices: the tunnel, the host's door into the pod network, and settings of its namespace."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import addresses, links, sysctl

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST_DEVICE = "cilium_host"
HOST_PEER = "cilium_net"
TUNNEL_DEVICE = "cilium_vxlan"
TUNNEL_OVERHEAD = 50  # outer Ethernet, IPv4, UDP and VXLAN headers


class Underlay(NamedTuple):
    """The native device by which nodes reach each other."""

    name: str
    ifindex: int
    mtu: int
    addresses: tuple[str, ...]  # without prefix length, IPv4 first

    @property
    def pod_mtu(self) -> int:
        return self.mtu - TUNNEL_OVERHEAD


class Devices(NamedTuple):
    underlay: Underlay
    host: int
    overlay: int


def underlay(name: str, mtu: int = 0) -> Underlay:
    """Return the device of that name. `mtu` 0 is the device's. CiliumpyError: it is missing or has no IPv4 address."""
    device = links.link(name)
    if device is None:
        present = ", ".join(link.name for link in links.links())
        raise CiliumpyError(
            f"network device {name} is not here", f"set network.device to one of the node's devices: {present}"
        )
    found = tuple(str(ipaddress.ip_interface(a).ip) for a in addresses.addresses(device.ifindex))
    if not any(":" not in address for address in found):
        raise CiliumpyError(
            f"network device {name} has no IPv4 address", "the tunnel between nodes runs over IPv4: give it one"
        )
    return Underlay(name, device.ifindex, mtu or device.mtu, found)


def prepare(native: Underlay, routers: Sequence[str], tunnel_port: int) -> Devices:
    """Make or repair the node's devices; `routers` are the addresses that the host has in the pod network."""
    sysctl.prepare_node()
    with_length = [f"{address}/{128 if ':' in address else 32}" for address in routers]
    links.ensure_veth_pair(HOST_DEVICE, HOST_PEER, native.pod_mtu, with_length)
    host = links.need(HOST_DEVICE).ifindex
    # What the host sends there is delivered by a program: no neighbour is asked for.
    links.set_arp(host, on=False)
    overlay = links.ensure_vxlan(TUNNEL_DEVICE, tunnel_port, native.mtu)
    for device in (HOST_DEVICE, HOST_PEER, TUNNEL_DEVICE, native.name):
        sysctl.prepare_device(device)
    return Devices(native, host, overlay)


def own_addresses() -> tuple[str, ...]:
    """Return every address of this namespace, loopback and link-local ones aside."""
    found: dict[str, None] = {}
    for link in links.links():
        for text in addresses.addresses(link.ifindex):
            ip = ipaddress.ip_interface(text).ip
            if not ip.is_loopback and not ip.is_link_local:
                found[str(ip)] = None
    return tuple(found)
