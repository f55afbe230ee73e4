# SPDX-License-Identifier: Apache-2.0
"""Identities between real agents: a label change under traffic, prefixes outside, and what nobody uses any more."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tests.soak import scaled

from .agent_node import WORLD4, WORLD6, AgentNode, Pod
from .test_agent_nodes import reach

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

CHANGES = scaled(4)


class Stream:
    """Datagrams one way, each with its number; who gets them is asked for the numbers."""

    def __init__(self, source: Pod, target: Pod) -> None:
        self._receiver = target.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind((target.addresses[0], 9000))
        self._receiver.settimeout(0.5)
        self._sender = source.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect((target.addresses[0], 9000))
        self._sent = 0

    def send(self, count: int) -> range:
        """Send so many, some milliseconds apart; return their numbers."""
        first = self._sent
        for number in range(first, first + count):
            self._sender.send(struct.pack("!I", number))
            time.sleep(0.002)
        self._sent += count
        return range(first, self._sent)

    def arrived(self) -> set[int]:
        """Take what has come, until nothing comes for a while."""
        found = set()
        while True:
            try:
                found.add(struct.unpack("!I", self._receiver.recv(64))[0])
            except TimeoutError:
                return found

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


def identity_of(node: AgentNode, address: str) -> int:
    """The identity that a node's kernel has been given for an address; 0 while it is on its way."""
    for row in node.get("/v1/statedb/ipcache")["items"]:
        if row["row"]["prefix"] == f"{address}/32":
            return int(row["row"]["identity"]) if row["status"]["state"] == "done" else 0
    return 0


def test_a_label_change_counts_from_the_next_packet_on_here_and_there(make_node) -> None:
    first = make_node()
    second = make_node(beside=first)
    for node in (first, second):
        node.start()
    a, near, far = first.add("a", labels={"app": "a", "role": "good"}), first.add("near"), second.add("far")
    rule = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "good", "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["near", "far"]}]},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "good"}}]}],
        },
    }
    first.apply("policy", rule)
    first.until(lambda: first.policy_in_force("near"), 20.0)
    second.until(lambda: second.policy_in_force("far") and identity_of(second, a.addresses[0]), 20.0)
    streams = [Stream(a, near), Stream(a, far)]
    try:
        for turn in range(CHANGES):
            good = turn % 2 == 0
            if turn:
                before = identity_of(first, a.addresses[0])
                first.know("a", labels={"app": "a", "role": "good" if good else "bad"})
                for stream in streams:
                    stream.send(20)  # either way
                for node in (first, second):
                    node.until(
                        lambda node=node, before=before: identity_of(node, a.addresses[0]) not in (0, before), 20.0
                    )
                first.until(lambda: first.get("/v1/endpoints")["items"][0]["state"] == "ready", 20.0)
                for stream in streams:
                    stream.arrived()
            for stream in streams:
                sent = stream.send(20)
                assert stream.arrived() & set(sent) == (set(sent) if good else set()), turn
    finally:
        for stream in streams:
            stream.close()


def prefixes(*, hole: bool) -> dict:
    def block(prefix: str, address: str) -> dict:
        return {"cidr": prefix, "except": [address]} if hole else {"cidr": prefix}

    blocks = [block("172.30.0.0/16", f"{WORLD4}/32"), block("fd00:30::/32", f"{WORLD6}/128")]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "b", "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "b"}}, "ingress": [{"fromCIDRSet": blocks}]},
    }


def test_a_prefix_lets_the_world_in_and_its_hole_does_not_but_no_node_and_no_pod(make_node) -> None:
    first = make_node()
    second = make_node(beside=first)
    for node in (first, second):
        node.start()
    a, b = first.add("a"), second.add("b")
    with b.listen(8080):
        reach(a, b.addresses)
        reach(first.world, b.addresses)
        second.apply("policy", prefixes(hole=False))
        second.until(lambda: second.policy_in_force("b"), 20.0)
        for address in b.addresses:
            assert first.world.can_connect(address, 8080)
            assert not first.place.can_connect(address, 8080, 0.3), "a node is in the prefix, and not of the world"
            assert not a.can_connect(address, 8080, 0.3)
        revision = second.get("/v1/status")["policy"]["revision"]
        second.apply("policy", prefixes(hole=True))
        second.until(
            lambda: (
                second.get("/v1/status")["policy"]["revision"] > revision
                and second.get("/v1/status")["policy"]["pending"] == 0
            ),
            20.0,
        )
        for address in b.addresses:
            assert not first.world.can_connect(address, 8080, 0.3)


def test_identities_that_nobody_uses_go_and_those_in_use_stay(make_node) -> None:
    settings = {"gcInterval": 1, "heartbeatTimeout": 2}
    first = make_node(identity=settings)
    second = make_node(beside=first, identity=settings)
    for node in (first, second):
        node.start()
    a, b = first.add("a"), second.add("b")
    first.know("a", labels={"app": "a", "once": "1"})
    second.know("b", labels={"app": "b", "last": "1"})

    def numbers() -> dict[str, int]:
        return {",".join(row["labels"]): row["id"] for row in first.get("/v1/identities")["items"] if row["id"] > 255}

    def of(text: str) -> set[int]:
        return {number for labels, number in numbers().items() if text in labels}

    first.until(lambda: of("once=1") and of("last=1"), 20.0)
    kept = of("once=1") | of("last=1")
    first.until(lambda: set(numbers().values()) == kept, 25.0)
    assert {int(path.stem) for path in (first.store / "ciliumidentities").glob("*.yaml")} == kept
    with b.listen(8080):
        reach(a, b.addresses)
    first.know("a", labels={"app": "a"})
    first.until(lambda: of("app=a") - kept, 20.0)
    assert min(of("app=a") - kept) > max(kept), "a number that was given up rests"
