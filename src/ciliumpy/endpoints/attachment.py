# SPDX-License-Identifier: Apache-2.0
"""What a runtime asks of one pod's interface, what other plugins say of it, and what is wrong with it. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ciliumpy.net.links import Link
    from ciliumpy.net.routes import Route
    from ciliumpy.tables.endpoints import Endpoint


class UnknownContainerError(CiliumpyError):
    """There is no endpoint of that container and interface."""


class CannotTakeOverError(CiliumpyError):
    """The interface that another plugin made is none that the datapath can guard."""


class DiffersError(CiliumpyError):
    """An attachment is not what it was when it was made; the hint lists all differences."""


class Request(NamedTuple):
    """What ADD asks for. `netns` is a path for messages; the namespace itself comes as a descriptor."""

    container_id: str
    interface: str
    netns: str
    namespace: str
    pod: str
    uid: str
    network: str = ""  # name of the network configuration: GC is told of one network at a time


class Device(NamedTuple):
    """An interface of a result. `mac` empty and `mtu` 0: nothing is said."""

    name: str
    mac: str
    mtu: int
    inside: bool  # of the pod


class Previous(NamedTuple):
    """A result of plugins: of those before us for ADD, of the whole list for CHECK."""

    addresses: tuple[str, ...]  # of the pod's interface, with prefix length
    routes: tuple[tuple[str, str], ...]  # destination, gateway or empty
    devices: tuple[Device, ...]


class Pair(NamedTuple):
    """A veth pair that another plugin made."""

    host_interface: str
    ifindex: int
    peer_ifindex: int
    mac: str
    host_mac: str


class Seen(NamedTuple):
    """Both sides of an attachment as the kernel has them now."""

    outer: Link | None
    inner: Link | None
    addresses: tuple[str, ...]
    routes: tuple[Route, ...]  # of the pod's main table, on any device


def pair(interface: str, inner: Link | None, outer: Link | None) -> Pair:
    """Return the two sides as a pair. CannotTakeOverError: they are none."""
    if inner is None:
        raise CannotTakeOverError(
            f"the pod has no interface {interface}", "in a chain, a plugin before this one must make it"
        )
    if inner.kind != "veth" or outer is None or outer.kind != "veth" or outer.peer != inner.ifindex:
        raise CannotTakeOverError(
            f"{interface} is no veth device with its other end on this node ({inner.kind or 'a real device'})",
            "chain behind a plugin that makes veth pairs: ptp or bridge",
        )
    return Pair(outer.name, outer.ifindex, inner.ifindex, inner.mac, outer.mac)


def addresses_of(previous: Previous) -> tuple[str, str]:
    """Return the IPv4 and the IPv6 address, without length; empty: none. CannotTakeOverError: none, or too many."""
    found: dict[int, list[str]] = {4: [], 6: []}
    for text in previous.addresses:
        address = ipaddress.ip_interface(text)
        found[address.version].append(str(address.ip))
    if not any(found.values()) or any(len(addresses) > 1 for addresses in found.values()):
        raise CannotTakeOverError(
            f"the pod's interface has the addresses {', '.join(previous.addresses) or 'none'} in prevResult",
            "the datapath takes one address of a family, and at least one",
        )
    return "".join(found[4]), "".join(found[6])


def differences(endpoint: Endpoint, previous: Previous, seen: Seen) -> Iterator[str]:
    """Tell what of an attachment is not as its result says."""
    outer, inner, name = seen.outer, seen.inner, endpoint.interface
    if outer is None or outer.ifindex != endpoint.ifindex or outer.kind != "veth":
        yield f"the node's side {endpoint.host_interface} is gone or another device"
    elif not outer.up:
        yield f"the node's side {endpoint.host_interface} is down"
    if inner is None or inner.ifindex != endpoint.peer_ifindex:
        yield f"the pod's {name} is gone or another device"
        return
    if not inner.up:
        yield f"the pod's {name} is down"
    yield from _devices(endpoint, previous, seen)
    said = {str(ipaddress.ip_interface(address).ip) for address in previous.addresses}
    for own in filter(None, (endpoint.ipv4, endpoint.ipv6)):
        if own not in said:
            yield f"prevResult has not the address {own}"
    present = {ipaddress.ip_interface(address) for address in seen.addresses}
    for text in previous.addresses:
        if ipaddress.ip_interface(text) not in present:
            yield f"the pod's {name} has not the address {text}"
    routed = {(route.destination, route.via) for route in seen.routes}
    for destination, gateway in previous.routes:
        network = str(ipaddress.ip_network(destination, strict=False))
        if not any(network == there and gateway in {"", via} for there, via in routed):
            yield f"the pod has no route to {network}{f' via {gateway}' if gateway else ''}"


def _devices(endpoint: Endpoint, previous: Previous, seen: Seen) -> Iterator[str]:
    own = {(endpoint.interface, True): seen.inner, (endpoint.host_interface, False): seen.outer}
    for key, link in own.items():
        said = next((device for device in previous.devices if (device.name, device.inside) == key), None)
        if said is None:
            yield f"prevResult has no interface {key[0]} {'of the pod' if key[1] else 'of the node'}"
        elif link is not None and said.mac and said.mac.lower() != link.mac:
            yield f"{key[0]} has the MAC address {link.mac}, not {said.mac}"
        elif link is not None and said.mtu and said.mtu != link.mtu:
            yield f"{key[0]} has the MTU {link.mtu}, not {said.mtu}"
