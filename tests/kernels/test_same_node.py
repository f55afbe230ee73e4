# SPDX-License-Identifier: Apache-2.0
"""Two pods on one node, in real namespaces, through the real program: allowed traffic flows, denied traffic does not.

It runs on this kernel, and inside every guest.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf import build
from ciliumpy.bpf.links import attach_tcx
from ciliumpy.net import links, netns, pods, sysctl
from tests.bpf.node import ALLOW, DROP, FLOW, INGRESS, ROUTER, TO_LOCAL, Level, Node
from tests.bpf.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

MTU = 1450
PORT = 8080
POLICY_DENIED = 133
PATIENCE_S = 20
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
def pair() -> Iterator[tuple[Node, dict[int, int]]]:
    """A node in a namespace of its own with pods 1 and 2 plugged in, and their namespaces by slot."""
    home = netns.open_own()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, home)
        namespaces = {name: netns.new_namespace() for name in ("node", 1, 2)}
        for fd in namespaces.values():
            undo.callback(os.close, fd)
        undo.callback(netns.libc.setns, home, netns.libc.CLONE_NEWNET)
        netns.libc.setns(namespaces["node"], netns.libc.CLONE_NEWNET)
        sysctl.prepare_node()
        devices = {"lxc3": 0, "host": 0, "vxlan": 0, "eth0": 0}
        for slot in (1, 2):
            devices[f"lxc{slot}"], _ = links.create_veth(
                f"lxc{slot}",
                namespaces[slot],
                "eth0",
                mtu=MTU,
                host_mac=f"02:00:00:00:02:{slot:02x}",
                peer_mac=f"02:00:00:00:01:{slot:02x}",
            )
        pool = Pool()
        undo.callback(pool.close)
        node = Node(pool, build.OBJECTS / "datapath.o", devices)
        undo.callback(node.close)
        for pod in node.pods[:2]:
            undo.callback(attach_tcx(node.object.programs["pod"], pod.ifindex, "ingress", None).close)
            sysctl.prepare_pod_host_side(f"lxc{pod.slot}")
            links.set_up(pod.ifindex)
            pods.configure_pod(namespaces[pod.slot], "eth0", pod.ip[4], pod.ip[6], ROUTER[4], ROUTER[6], MTU)
        node.rings.consume()
        yield node, {slot: namespaces[slot] for slot in (1, 2)}


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def await_event(node: Node, kind: int) -> dict[str, int]:
    """The first event of this type; rings wake nobody for a single record, so they are asked."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for event in node.rings.consume():
            if event["type"] == kind:
                return {name: event[name] for name in event.dtype.names}
        os.sched_yield()
    raise AssertionError(f"no event of type {kind}")


def test_pods_talk_and_a_policy_cuts_them(pair: tuple[Node, dict[int, int]], version: int) -> None:
    node, namespaces = pair
    one, two, _ = node.pods
    with (
        netns.run_in(namespaces[2], socket.create_server, (two.ip[version], PORT), family=FAMILY[version]) as server,
        netns.run_in(namespaces[1], socket.create_connection, (two.ip[version], PORT), PATIENCE_S) as client,
    ):
        accepted, peer = server.accept()
        with accepted:
            assert peer[0] == one.ip[version]
            accepted.sendall(b"x" * 100_000)
            received = b""
            while len(received) < 100_000:
                received += client.recv(65536) or pytest.fail("it ended early")
        event = await_event(node, FLOW)
        assert (event["src_identity"], event["dst_identity"], event["dport"]) == (1000, 2000, PORT)
        assert event["flags"] & TO_LOCAL

        node.policy(two, INGRESS, {}, default=0)
        node.rings.consume()
        with netns.run_in(namespaces[1], socket.socket, FAMILY[version], socket.SOCK_STREAM) as second:
            second.setblocking(False)
            second.connect_ex((two.ip[version], PORT))
            event = await_event(node, DROP)
            assert (event["reason"], event["src_identity"], event["dport"]) == (POLICY_DENIED, 1000, PORT)
            assert select.select([], [second], [], 0) == ([], [], []), "not connected"

        node.policy(two, INGRESS, {(socket.IPPROTO_TCP, PORT): node.port_class(Level(ALLOW, everybody=True))})
        netns.run_in(namespaces[1], socket.create_connection, (two.ip[version], PORT), PATIENCE_S).close()
