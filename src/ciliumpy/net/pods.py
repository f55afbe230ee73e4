# SPDX-License-Identifier: Apache-2.0
"""The inside of a pod's namespace: addresses, the route to the gateway, settings."""

from __future__ import annotations

from ciliumpy.net import addresses, links, netns, routes, sysctl
from ciliumpy.net.netlink import session

_LOOPBACK = 1  # the first device of every namespace


def configure_pod(
    ns_fd: int,
    ifname: str,
    ipv4: str | None,
    ipv6: str | None,
    gateway4: str | None,
    gateway6: str | None,
    mtu: int,
) -> None:
    """Bring up `lo` and `ifname` in the namespace with the addresses (/32, /128) and a default route by the gateway.

    Addresses are bare; one family may be None. The device comes up here: call it when programs and rows are in place.
    """
    netns.run_in(ns_fd, _configure, ifname, ipv4, ipv6, gateway4, gateway6, mtu)


def _configure(
    ifname: str, ipv4: str | None, ipv6: str | None, gateway4: str | None, gateway6: str | None, mtu: int
) -> None:
    with session():
        device = links.need(ifname)
        links.set_up(_LOOPBACK)
        if device.mtu != mtu:
            links.set_mtu(device.ifindex, mtu)
        # No link-local address, so no router solicitations: the only neighbour is the gateway, known by address.
        sysctl.write("net.ipv6.conf.{}.addr_gen_mode", 1, ifname)
        sysctl.write("net.ipv6.conf.{}.accept_dad", 0, ifname)
        sysctl.write("net.ipv6.conf.{}.accept_ra", 0, ifname)
        wanted = ([f"{ipv4}/32"] if ipv4 else []) + ([f"{ipv6}/128"] if ipv6 else [])
        addresses.set_addresses(device.ifindex, wanted)
        links.set_up(device.ifindex)
        if ipv4 and gateway4:
            routes.replace_route(f"{gateway4}/32", device.ifindex, src=ipv4)
            routes.replace_route("0.0.0.0/0", device.ifindex, via=gateway4, src=ipv4)
        if ipv6 and gateway6:
            routes.replace_route(f"{gateway6}/128", device.ifindex)
            routes.replace_route("::/0", device.ifindex, via=gateway6)
