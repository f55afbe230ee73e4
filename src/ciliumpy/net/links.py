# SPDX-License-Identifier: Apache-2.0
"""Links of the calling thread's namespace: veth pairs, vxlan, bridges."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import addresses as _addresses
from ciliumpy.net import netns
from ciliumpy.net.netlink import KernelRefusalError, attribute, conversation, session

if TYPE_CHECKING:
    from collections.abc import Iterable

_IFF_UP = 0x1
_IFF_NOARP = 0x80


class Link(NamedTuple):
    """A link as the kernel shows it.

    `peer` is the ifindex of a veth's other end, in that one's namespace; 0: none. `peer_netns` is this namespace's
    number for that namespace; -1: it is this one.
    """

    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    kind: str  # veth, vxlan, bridge, ...; empty for a real device
    peer: int
    peer_netns: int = -1


def _link(message: Any) -> Link:
    info = attribute(message, "IFLA_LINKINFO")
    return Link(
        ifindex=message["index"],
        name=attribute(message, "IFLA_IFNAME"),
        mac=attribute(message, "IFLA_ADDRESS") or "",
        mtu=attribute(message, "IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        kind=(attribute(info, "IFLA_INFO_KIND") or "") if info else "",
        peer=attribute(message, "IFLA_LINK") or 0,
        peer_netns=-1 if (number := attribute(message, "IFLA_LINK_NETNSID")) is None else number,
    )


def link(which: str | int) -> Link | None:
    """Return the link of that name or ifindex, or None."""
    what = {"index": which} if isinstance(which, int) else {"ifname": which}
    try:
        with conversation(f"cannot look at link {which}") as route:
            return next((_link(m) for m in route.link("get", **what)), None)
    except KernelRefusalError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def links() -> list[Link]:
    """Return all links by ifindex."""
    with conversation("cannot list links") as route:
        return sorted(_link(m) for m in route.get_links())


def need(which: str | int) -> Link:
    """Return the link, or raise that it is missing."""
    found = link(which)
    if found is None:
        raise CiliumpyError(f"there is no network device {which} here", "see `ip link`")
    return found


def create_veth(
    host_name: str,
    peer_ns_fd: int | None,
    peer_name: str,
    *,
    mtu: int,
    host_mac: str = "",
    peer_mac: str = "",
    up: bool = False,
) -> tuple[int, int]:
    """Make a veth pair, its peer in the namespace `peer_ns_fd`; return (ifindex, peer's ifindex). EEXIST is an error.

    A name that is taken, here or there, is a CiliumpyError; nothing is left then.
    """
    peer: dict[str, Any] = {"ifname": peer_name, "mtu": mtu}
    if peer_ns_fd is not None:
        peer["net_ns_fd"] = peer_ns_fd
    if peer_mac:
        peer["address"] = peer_mac
    host: dict[str, Any] = {"ifname": host_name, "kind": "veth", "mtu": mtu, "peer": peer}
    if host_mac:
        host["address"] = host_mac
    with session():
        with conversation(f"cannot make the veth pair {host_name} - {peer_name}") as route:
            route.link("add", **host)
        made = need(host_name)
    if up:
        set_up(made.ifindex)
        netns.run_in(peer_ns_fd, set_up, made.peer)
    return made.ifindex, made.peer


def set_up(which: str | int, *, up: bool = True) -> None:
    with conversation(f"cannot set {which} {'up' if up else 'down'}") as route:
        route.link("set", index=_index(which), state="up" if up else "down")


def set_mtu(which: str | int, mtu: int) -> None:
    with conversation(f"cannot set the MTU of {which} to {mtu}") as route:
        route.link("set", index=_index(which), mtu=mtu)


def set_arp(which: str | int, *, on: bool) -> None:
    """Without ARP the device's neighbours need no asking: every address has the device's own MAC."""
    flags = 0 if on else _IFF_NOARP
    with conversation(f"cannot set ARP of {which} {'on' if on else 'off'}") as route:
        route.link("set", index=_index(which), flags=flags, change=_IFF_NOARP)


def set_mac(which: str | int, mac: str) -> None:
    with conversation(f"cannot set the address of {which} to {mac}") as route:
        route.link("set", index=_index(which), address=mac)


def _index(which: str | int) -> int:
    return which if isinstance(which, int) else need(which).ifindex


def delete(which: str | int) -> bool:
    """Delete the link; return False if it was not there. A veth takes its peer along."""
    try:
        with session():
            found = link(which)
            if found is None:
                return False
            with conversation(f"cannot delete link {which}") as route:
                route.link("del", index=found.ifindex)
    except KernelRefusalError as error:
        if error.code == errno.ENODEV:
            return False
        raise
    return True


def ensure_vxlan(name: str, port: int, mtu: int) -> int:
    """Return the ifindex of an up vxlan device whose tunnel key a program sets (external mode), making or repairing it.

    A device of that name which is something else, or listens elsewhere, is replaced.
    """
    with conversation(f"cannot make the vxlan device {name} on UDP port {port}") as route:
        for message in route.get_links():
            if attribute(message, "IFLA_IFNAME") == name and not _is_external_vxlan(message, port):
                route.link("del", index=message["index"])
        try:
            route.link(
                "add",
                ifname=name,
                kind="vxlan",
                vxlan_collect_metadata=True,
                vxlan_learning=False,
                vxlan_port=port,
                mtu=mtu,
            )
        except Exception as error:
            if getattr(error, "code", 0) != errno.EEXIST:
                raise
        index: int = route.link_lookup(ifname=name)[0]
        route.link("set", index=index, mtu=mtu, state="up")
        return index


def _is_external_vxlan(message: Any, port: int) -> bool:
    info = attribute(message, "IFLA_LINKINFO")
    data = attribute(info, "IFLA_INFO_DATA") if info else None
    if data is None or attribute(info, "IFLA_INFO_KIND") != "vxlan":
        return False
    return bool(attribute(data, "IFLA_VXLAN_COLLECT_METADATA")) and attribute(data, "IFLA_VXLAN_PORT") == port


def ensure_veth_pair(name: str, peer_name: str, mtu: int, addresses: Iterable[str] = ()) -> tuple[int, int]:
    """Return the ifindexes of an up veth pair in this namespace, `addresses` (with prefix) on the first, no others."""
    first, second = link(name), link(peer_name)
    if first is None or second is None or first.peer != second.ifindex:
        delete(name)
        delete(peer_name)
        create_veth(name, None, peer_name, mtu=mtu)
        first, second = need(name), need(peer_name)
    for end in (first, second):
        if end.mtu != mtu:
            set_mtu(end.ifindex, mtu)
        if not end.up:
            set_up(end.ifindex)
    _addresses.set_addresses(first.ifindex, addresses)
    return first.ifindex, second.ifindex


def ensure_bridge(name: str, mtu: int) -> int:
    """Return the ifindex of an up bridge that forwards at once (no spanning tree, no multicast snooping)."""
    found = link(name)
    if found is None:
        with conversation(f"cannot make the bridge {name}") as route:
            route.link("add", ifname=name, kind="bridge", mtu=mtu, br_stp_state=0, br_mcast_snooping=0)
        found = need(name)
    set_up(found.ifindex)
    return found.ifindex


def set_master(which: str | int, bridge: str | int) -> None:
    with conversation(f"cannot put {which} on the bridge {bridge}") as route:
        route.link("set", index=_index(which), master=_index(bridge))
