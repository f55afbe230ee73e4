# SPDX-License-Identifier: Apache-2.0
"""Addresses of links in the calling thread's namespace, always with their prefix length: 10.0.0.1/32."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from ciliumpy.net.netlink import attribute, conversation

if TYPE_CHECKING:
    from collections.abc import Iterable

_NODAD = 0x02  # usable at once: nobody else can have it
_SCOPE_LINK = 253


def addresses(ifindex: int) -> list[str]:
    """Return the device's addresses except link-local IPv6 ones, v4 first."""
    with conversation(f"cannot list the addresses of device {ifindex}") as route:
        return _listed(route, ifindex)


def everywhere() -> dict[int, list[str]]:
    """Return the addresses of all devices by ifindex, like `addresses`; a device without any is not in it."""
    found: dict[int, list[Any]] = {}
    with conversation("cannot list addresses") as route:
        for message in route.get_addr():
            found.setdefault(message["index"], []).append(message)
    return {index: _texts(messages) for index, messages in found.items()}


def set_addresses(ifindex: int, wanted: Iterable[str]) -> bool:
    """Make `wanted` the device's addresses, link-local IPv6 ones aside; return whether anything changed."""
    goal = {str(ipaddress.ip_interface(a)) for a in wanted}
    with conversation(f"cannot set the addresses of device {ifindex}") as route:
        present = set(_listed(route, ifindex))
        for address in sorted(present - goal):
            interface = ipaddress.ip_interface(address)
            route.addr("del", index=ifindex, address=str(interface.ip), prefixlen=interface.network.prefixlen)
        for address in sorted(goal - present):
            interface = ipaddress.ip_interface(address)
            flags = {"flags": _NODAD} if interface.version == 6 else {}
            try:
                route.addr(
                    "add", index=ifindex, address=str(interface.ip), prefixlen=interface.network.prefixlen, **flags
                )
            except Exception as error:
                if getattr(error, "code", 0) != errno.EEXIST:
                    raise
        return present != goal


def _listed(route: Any, ifindex: int) -> list[str]:
    return _texts(route.get_addr(index=ifindex))


def _texts(messages: Iterable[Any]) -> list[str]:
    found: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface] = []
    for message in messages:
        if message["family"] == socket.AF_INET6 and message["scope"] == _SCOPE_LINK:
            continue
        address = attribute(message, "IFA_LOCAL") or attribute(message, "IFA_ADDRESS")
        found.append(ipaddress.ip_interface(f"{address}/{message['prefixlen']}"))
    return [str(i) for i in sorted(found, key=lambda i: (i.version, int(i.ip)))]
