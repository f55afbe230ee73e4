# SPDX-License-Identifier: Apache-2.0
"""Routes of the main table in the calling thread's namespace. `destination` is a prefix, or `default` with `family`."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any, NamedTuple

from ciliumpy.net.netlink import KernelRefusalError, attribute, conversation

_MAIN_TABLE = 254
_SCOPE_LINK = 253
_ONLINK = 4  # RTNH_F_ONLINK: the gateway need not be covered by a route
_UNICAST = 1


class Route(NamedTuple):
    destination: str  # prefix; 0.0.0.0/0 and ::/0 are the defaults
    oif: int
    via: str  # empty: directly
    source: str  # preferred source, empty: none


def _request(destination: str, oif: int | None) -> dict[str, Any]:
    network = ipaddress.ip_network(destination)
    request: dict[str, Any] = {
        "dst": str(network),
        "family": socket.AF_INET if network.version == 4 else socket.AF_INET6,
        "table": _MAIN_TABLE,
    }
    if oif is not None:
        request["oif"] = oif
    return request


def replace_route(
    destination: str,
    oif: int,
    via: str | None = None,
    src: str | None = None,
    mtu: int | None = None,
    *,
    onlink: bool = False,
) -> None:
    """Add the route, or change the one that goes there. `destination` is a prefix; 0.0.0.0/0 or ::/0 is the default."""
    request = _request(destination, oif)
    if via:
        request["gateway"] = via
        if onlink:
            request["flags"] = _ONLINK
    elif request["family"] == socket.AF_INET:
        request["scope"] = _SCOPE_LINK
    if src:
        request["prefsrc"] = src
    if mtu:
        request["metrics"] = {"mtu": mtu}
    with conversation(f"cannot set the route to {destination}{f' via {via}' if via else ''}") as route:
        route.route("replace", **request)


def delete_route(destination: str, oif: int | None = None) -> bool:
    """Delete the route; return False if there was none."""
    try:
        with conversation(f"cannot delete the route to {destination}") as route:
            route.route("del", **_request(destination, oif))
    except KernelRefusalError as error:
        if error.code in {errno.ESRCH, errno.ENOENT, errno.ENODEV}:
            return False
        raise
    return True


def routes(oif: int | None = None) -> list[Route]:
    """Return the unicast routes of the main table, of one device or all, v4 first."""
    found: list[Route] = []
    with conversation("cannot list routes") as route:
        for message in route.get_routes(table=_MAIN_TABLE):
            index = attribute(message, "RTA_OIF") or 0
            if message["type"] != _UNICAST or (oif is not None and index != oif):
                continue
            v4 = message["family"] == socket.AF_INET
            if message["family"] not in {socket.AF_INET, socket.AF_INET6}:
                continue
            destination = attribute(message, "RTA_DST") or ("0.0.0.0" if v4 else "::")  # noqa: S104 - a route
            found.append(
                Route(
                    f"{destination}/{message['dst_len']}",
                    index,
                    attribute(message, "RTA_GATEWAY") or "",
                    attribute(message, "RTA_PREFSRC") or "",
                )
            )
    return sorted(found, key=lambda r: (":" in r.destination, r))
