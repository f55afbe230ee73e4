# SPDX-License-Identifier: Apache-2.0
"""Two nodes in namespaces of their own, joined by a wire: the real programs on real devices, tables written by hand.

`near` has the pods 1 and 2, `far` the pod that `near` knows as FAR.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ciliumpy.bpf import build, pins
from ciliumpy.datapath.hooks import Hooks, Kind, choose
from ciliumpy.net import addresses, links, netns, pods, routes, sysctl
from tests.bpf.node import (
    FAR,
    FAR_CIDR,
    FAR_IDENTITY,
    FAR_NODE,
    HOST,
    NODE,
    OWN,
    OWN_CIDR,
    OWN_NODE,
    REMOTE_NODE,
    ROUTER,
    TUNNEL,
    Node,
    Pod,
    address,
)
from tests.bpf.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

MTU, POD_MTU = 1500, 1450
TUNNEL_PORT = 8472


class FarPod(Pod):
    """As its own node has it."""

    @property
    def ip(self) -> dict[int, str]:
        return FAR


@dataclass
class Cluster:
    """`inside` are the namespaces of pods 1 and 2 of the near node, and 3 of the far one."""

    kind: Kind
    near: Node
    far: Node
    pods: dict[int, Pod]
    inside: dict[int, int]


@contextlib.contextmanager
def cluster(kind: Kind | None = None) -> Iterator[Cluster]:
    """Make it; all of it goes at the end. Without `kind` programs are attached as an agent would attach them here."""
    home = netns.open_own()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, home)
        spaces = {name: netns.new_namespace() for name in ("near", "far", 1, 2, 3)}
        for fd in spaces.values():
            undo.callback(os.close, fd)
        undo.callback(netns.libc.setns, home, netns.libc.CLONE_NEWNET)
        folder = pins.mounted() / f"cpt-cluster-{os.getpid()}"
        undo.callback(_remove, folder)
        netns.libc.setns(spaces["near"], netns.libc.CLONE_NEWNET)
        links.create_veth("eth0", spaces["far"], "eth0", mtu=MTU)
        pool = Pool()
        undo.callback(pool.close)
        hooks = {end: Hooks(kind or choose("auto"), folder / end) for end in ("near", "far")}
        near = _node(pool, hooks["near"], OWN_NODE, {slot: spaces[slot] for slot in (1, 2)})
        undo.callback(near.close)
        netns.libc.setns(spaces["far"], netns.libc.CLONE_NEWNET)
        far = _node(pool, hooks["far"], FAR_NODE, {1: spaces[3]})
        undo.callback(far.close)
        three = _make_far(far)
        netns.libc.setns(spaces["near"], netns.libc.CLONE_NEWNET)
        for node in (near, far):
            node.bump()
            node.rings.consume()
        inside = {slot: spaces[slot] for slot in (1, 2, 3)}
        yield Cluster(hooks["near"].kind, near, far, {1: near.pods[0], 2: near.pods[1], 3: three}, inside)


def _node(pool: Pool, hooks: Hooks, own: dict[int, str], plugged: dict[int, int]) -> Node:
    """In the calling thread's namespace."""
    sysctl.prepare_node()
    host, _ = links.ensure_veth_pair("cilium_host", "cilium_net", POD_MTU)
    links.set_arp(host, on=False)
    eth0 = links.need("eth0").ifindex
    addresses.set_addresses(eth0, [f"{own[4]}/24", f"{own[6]}/64"])
    links.set_up("lo")
    links.set_up(eth0)
    devices = {"host": host, "vxlan": links.ensure_vxlan("cilium_vxlan", TUNNEL_PORT, MTU), "eth0": eth0}
    devices |= dict.fromkeys(("lxc1", "lxc2", "lxc3"), 0)
    for slot, fd in plugged.items():
        devices[f"lxc{slot}"], _ = links.create_veth(
            f"lxc{slot}",
            fd,
            "eth0",
            mtu=POD_MTU,
            host_mac=f"02:00:00:00:02:{slot:02x}",
            peer_mac=f"02:00:00:00:01:{slot:02x}",
        )
    node = Node(
        pool,
        build.OBJECTS / "datapath.o",
        devices,
        cfg_node_ip4=address(own[4]),
        cfg_node_ip6=address(own[6]),
    )
    for name in ("cilium_host", "cilium_net", "cilium_vxlan", "eth0"):
        sysctl.prepare_device(name)
    for hook, name in (("host", "cilium_host"), ("overlay", "cilium_vxlan"), ("netdev", "eth0")):
        hooks.attach(hook, node.object.programs[hook], name, links.need(name).ifindex)
    for own_cidr in (OWN_CIDR if own is OWN_NODE else FAR_CIDR).values():
        routes.replace_route(own_cidr, host)
    for slot, fd in plugged.items():
        pod = node.pods[slot - 1]
        sysctl.prepare_pod_host_side(f"lxc{slot}")
        hooks.attach("pod", node.object.programs["pod"], f"lxc{slot}", pod.ifindex)
        links.set_up(pod.ifindex)
        where = pod.ip if own is OWN_NODE else FAR
        pods.configure_pod(fd, "eth0", where[4], where[6], ROUTER[4], ROUTER[6], POD_MTU)
    return node


def _make_far(node: Node) -> Pod:
    """Turn a node's tables round: what is far for the one is its own here."""
    near = node.pods
    for version in (4, 6):
        for pod in near:
            node.maps["cp_local_v1"].delete(address(pod.ip[version]))
            node.ipcache(pod.ip[version], pod.identity, flags=TUNNEL, tunnel=OWN_NODE[4])
        node.ipcache(OWN_CIDR[version], 9 if version == 4 else 10, flags=TUNNEL, tunnel=OWN_NODE[4])
        node.ipcache(FAR_NODE[version], HOST, flags=OWN)
        node.ipcache(OWN_NODE[version], REMOTE_NODE, flags=NODE)
    three = FarPod(1, near[0].ifindex, FAR_IDENTITY)
    node.plug(three)
    return three


def _remove(folder: os.PathLike[str]) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
