# SPDX-License-Identifier: Apache-2.0
"""Pods of one node and of two, in real namespaces: allowed traffic flows, denied traffic does not, both are told of.

It runs on this kernel, with both kinds of attachment, and inside every guest, with the kind that is right there.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, Literal

import pytest

from ciliumpy.net import netns
from tests.bpf.node import ALLOW, DROP, FLOW, INGRESS, TO_LOCAL, TO_OVERLAY, Level, Node
from tests.kernels.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

PORT = 8080
POLICY_DENIED = 133
PATIENCE_S = 20
BIG = 100_000
BIT = 5
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
KINDS: list[Literal["tcx", "clsact"] | None] = [None] if os.environ.get("CILIUMPY_GUEST") else ["tcx", "clsact"]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def nodes(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(request.param) as made:
        yield made


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def await_event(node: Node, kind: int, port: int = PORT) -> dict[str, int]:
    """The first event of this type; rings wake nobody for a single record, so they are asked."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for event in node.rings.consume():
            if (event["type"], event["dport"]) == (kind, port):
                return {name: event[name] for name in event.dtype.names}
        os.sched_yield()
    raise AssertionError(f"no event of type {kind}")


@pytest.mark.parametrize("to", [2, 3], ids=["same-node", "overlay"])
def test_pods_talk_and_a_policy_cuts_them(nodes: Cluster, version: int, to: int) -> None:
    source, target, inside = nodes.pods[1], nodes.pods[to], nodes.inside
    judge = nodes.near if to == 2 else nodes.far
    nodes.near.vector(source.identity, BIT)
    nodes.far.vector(source.identity, BIT)
    with (
        netns.run_in(inside[to], socket.create_server, (target.ip[version], PORT), family=FAMILY[version]) as server,
        netns.run_in(inside[1], socket.create_connection, (target.ip[version], PORT), PATIENCE_S) as client,
    ):
        accepted, peer = server.accept()
        with accepted:
            assert peer[0] == source.ip[version]
            accepted.setblocking(False)
            sent = received = 0
            while received < BIG:
                if sent < BIG and select.select([], [accepted], [], 0)[1]:
                    sent += accepted.send(b"x" * min(65536, BIG - sent))
                received += len(client.recv(65536)) or pytest.fail("it ended early")
        event = await_event(nodes.near, FLOW)
        assert (event["src_identity"], event["dst_identity"]) == (source.identity, target.identity)
        assert event["flags"] & (TO_LOCAL if to == 2 else TO_OVERLAY)

        judge.policy(target, INGRESS, {}, default=0)
        judge.bump()
        for node in (nodes.near, nodes.far):
            node.rings.consume()
        with netns.run_in(inside[1], socket.socket, FAMILY[version], socket.SOCK_STREAM) as second:
            second.setblocking(False)
            second.connect_ex((target.ip[version], PORT))
            event = await_event(judge, DROP)
            assert (event["reason"], event["src_identity"]) == (POLICY_DENIED, source.identity)
            assert select.select([], [second], [], 0) == ([], [], []), "not connected"

        allowed = judge.port_class(Level(ALLOW, bits=(BIT,)))
        judge.policy(target, INGRESS, {(socket.IPPROTO_TCP, PORT): allowed})
        judge.bump()
        netns.run_in(inside[1], socket.create_connection, (target.ip[version], PORT), PATIENCE_S).close()
    judge.free(target)
    judge.bump()
    for node in (nodes.near, nodes.far):
        node.rings.consume()
