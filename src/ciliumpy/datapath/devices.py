# SPDX-License-Identifier: Apache-2.0
"""The node's own devices: the tunnel, the host's door into the pod network, and settings of its namespace."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import addresses, links, sysctl
from ciliumpy.tables.datapath import NodeAddress

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST_DEVICE = "cilium_host"
HOST_PEER = "cilium_net"
TUNNEL_DEVICE = "cilium_vxlan"
POD_PREFIX = "lxc"  # of the node's side of a pod that we plugged in
TUNNEL_OVERHEAD = {4: 50, 6: 70}  # inner Ethernet, VXLAN, UDP and the outer IP header
LEAST_IPV6_MTU = 1280


class Underlay(NamedTuple):
    """The native device by which nodes reach each other."""

    name: str
    ifindex: int
    mtu: int
    addresses: tuple[str, ...]  # without prefix length, IPv4 first
    version: int = 4  # of IP, that the tunnel runs over

    @property
    def pod_mtu(self) -> int:
        return self.mtu - TUNNEL_OVERHEAD[self.version]

    def own_address(self, version: int) -> str:
        """Return the node's address of a family, or nothing; the tunnel's end is that of the tunnel's family."""
        return next((a for a in self.addresses if (":" in a) == (version == 6)), "")


class Devices(NamedTuple):
    underlay: Underlay
    host: int
    overlay: int


def underlay(name: str, mtu: int = 0, *, tunnel_over: str = "auto", ipv4: bool = True, ipv6: bool = True) -> Underlay:
    """Return the device of that name. `mtu` 0 is the device's, `ipv4` and `ipv6` are the families that pods have.

    `tunnel_over` is auto, ipv4 or ipv6. CiliumpyError: the device is missing, has no such address, or takes too little.
    """
    device = links.link(name)
    if device is None:
        present = ", ".join(link.name for link in links.links())
        raise CiliumpyError(
            f"network device {name} is not here", f"set network.device to one of the node's devices: {present}"
        )
    found = device_addresses(device.ifindex)
    has = {4: any(":" not in a for a in found), 6: any(":" in a for a in found)}
    version = {"ipv4": 4, "ipv6": 6}.get(tunnel_over) or (4 if has[4] and (ipv4 or not has[6]) else 6)
    if not has[version]:
        family = "" if tunnel_over == "auto" else f" IPv{version}"
        raise CiliumpyError(
            f"network device {name} has no{family} address",
            f"the tunnel between nodes runs over it (network.underlay: {tunnel_over}): give it one",
        )
    made = Underlay(name, device.ifindex, mtu or device.mtu, found, version)
    if ipv6 and made.pod_mtu < LEAST_IPV6_MTU:
        raise CiliumpyError(
            f"network device {name} has an MTU of {made.mtu}, which leaves pods {made.pod_mtu}",
            f"IPv6 wants {LEAST_IPV6_MTU}: raise it to {LEAST_IPV6_MTU + TUNNEL_OVERHEAD[version]}, "
            "or set network.ipv6 to false",
        )
    return made


def device_addresses(ifindex: int) -> tuple[str, ...]:
    """Return the addresses of a device, IPv4 first, without prefix length and without link-local ones."""
    found = (ipaddress.ip_interface(a).ip for a in addresses.addresses(ifindex))
    return tuple(str(ip) for ip in found if not ip.is_link_local)


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


def own_addresses(native: str) -> tuple[NodeAddress, ...]:
    """Return every address of this namespace, loopback and link-local ones aside; `native` is the underlay's name."""
    found: dict[str, NodeAddress] = {}
    everywhere = addresses.everywhere()
    for index in sorted(everywhere):
        link = links.link(index)
        for text in everywhere[index] if link is not None else ():
            ip = ipaddress.ip_interface(text).ip
            if link is not None and not ip.is_loopback and not ip.is_link_local:
                found.setdefault(str(ip), NodeAddress(str(ip), link.name, link.name == native))
    return tuple(found.values())
