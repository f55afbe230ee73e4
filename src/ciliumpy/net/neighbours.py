# SPDX-License-Identifier: Apache-2.0
"""Permanent neighbour entries in the calling thread's namespace."""

from __future__ import annotations

import errno
import ipaddress
import socket

from ciliumpy.net.netlink import KernelRefusalError, attribute, conversation

_PERMANENT = 0x80


def _family(address: str) -> int:
    return socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6


def replace_neighbour(ifindex: int, address: str, mac: str) -> None:
    with conversation(f"cannot set the neighbour {address} to {mac} on device {ifindex}") as route:
        route.neigh("replace", ifindex=ifindex, dst=address, lladdr=mac, state=_PERMANENT, family=_family(address))


def delete_neighbour(ifindex: int, address: str) -> bool:
    """Delete the entry; return False if there was none."""
    try:
        with conversation(f"cannot delete the neighbour {address} on device {ifindex}") as route:
            route.neigh("del", ifindex=ifindex, dst=address, family=_family(address))
    except KernelRefusalError as error:
        if error.code in {errno.ENOENT, errno.ESRCH, errno.ENODEV}:
            return False
        raise
    return True


def permanent_neighbours(ifindex: int) -> dict[str, str]:
    """Return address -> MAC of the device's permanent entries."""
    with conversation(f"cannot list the neighbours of device {ifindex}") as route:
        return {
            attribute(m, "NDA_DST"): attribute(m, "NDA_LLADDR") or ""
            for m in route.get_neighbours(ifindex=ifindex)
            if m["state"] & _PERMANENT
        }
