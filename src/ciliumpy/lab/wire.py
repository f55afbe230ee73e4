# SPDX-License-Identifier: Apache-2.0
"""The lab's networks: a namespace a node, one for the wire between them, one for the world behind it.

The wire is a bridge in a namespace of its own, so labs do not meet each other or the machine, and may use the same
addresses. Everything here is idempotent.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ciliumpy.lab import machine, spec
from ciliumpy.net import addresses, libc, links, netns, routes, sysctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ciliumpy.lab.place import Place
    from ciliumpy.lab.spec import LabSpec

WIRE = "wire"
WORLD = "world"
DEVICE = "eth0"


def build(place: Place, lab: LabSpec) -> None:
    """Make what is missing of wire, world and nodes."""
    _keep_namespaces_apart(place)
    with _namespace(place, WIRE) as wire:
        netns.run_in(wire, _bridge, lab.mtu)
        gateway = lab.gateway()
        with _namespace(place, WORLD) as world:
            _plug(wire, world, WORLD, lab, gateway)
            netns.run_in(world, _set_up_world)
        for index, node in enumerate(lab.nodes):
            with _namespace(place, node.name) as inside:
                _plug(wire, inside, f"node{index + 1}", lab, lab.address(node.name))
                netns.run_in(inside, _set_up_node, gateway)


def _keep_namespaces_apart(place: Place) -> None:
    """Make the folder of namespaces a mount: a pod that is set up lets go of all of them by one unmount."""
    folder = place.netns("")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(m.point == str(folder) for m in machine.mounts()):
        libc.mount(str(folder), str(folder), flags=libc.MS_BIND)
        libc.mount("none", str(folder), flags=libc.MS_PRIVATE)


@contextmanager
def _namespace(place: Place, name: str) -> Iterator[int]:
    path = place.netns(name)
    fd = netns.open_path(path) if netns.is_namespace(path) else netns.new_namespace(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _bridge(mtu: int) -> None:
    links.ensure_bridge("wire0", mtu)
    for name in ("iptables", "ip6tables", "arptables"):
        if Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}").exists():
            sysctl.write(f"net.bridge.bridge-nf-call-{name}", 0)


def _plug(wire: int, inside: int, name: str, lab: LabSpec, on_wire: tuple[str, ...]) -> None:
    lengths = lab.wire_lengths()

    def connect() -> None:
        if netns.run_in(inside, links.link, DEVICE) is None:
            links.delete(name)
            links.create_veth(name, inside, DEVICE, mtu=lab.mtu)
        links.set_master(name, "wire0")
        links.set_up(name)

    def address() -> None:
        links.set_up("lo")
        sysctl.prepare_device(DEVICE)
        device = links.need(DEVICE)
        addresses.set_addresses(device.ifindex, [f"{a}/{n}" for a, n in zip(on_wire, lengths, strict=True)])
        links.set_up(device.ifindex)

    netns.run_in(wire, connect)
    netns.run_in(inside, address)


def _set_up_node(gateway: tuple[str, ...]) -> None:
    sysctl.prepare_node()
    device = links.need(DEVICE).ifindex
    for via in gateway:
        routes.replace_route("::/0" if ":" in via else "0.0.0.0/0", device, via=via)


def _set_up_world() -> None:
    loopback = links.need("lo").ifindex
    own = [f"{a}/{128 if ':' in a else 32}" for a in spec.WORLD_ADDRESSES + spec.WORLD_OTHERS]
    addresses.set_addresses(loopback, ["127.0.0.1/8", "::1/128", *own])


def route_pods(place: Place, pod_cidrs: dict[str, str]) -> None:
    """Make the world's routes to pods exactly these: pod CIDR -> the node's address on the wire."""
    with _namespace(place, WORLD) as world:
        netns.run_in(world, _route_pods, pod_cidrs)


def _route_pods(pod_cidrs: dict[str, str]) -> None:
    device = links.need(DEVICE).ifindex
    present = {r.destination: r for r in routes.routes(device) if r.via}
    for cidr, via in pod_cidrs.items():
        known = present.pop(cidr, None)
        if known is None or known.via != via:
            routes.replace_route(cidr, device, via=via, src=spec.WORLD_ADDRESSES[1 if ":" in cidr else 0])
    for stale in present:
        routes.delete_route(stale, device)
