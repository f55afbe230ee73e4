# SPDX-License-Identifier: Apache-2.0
"""Guard 9 where it asks the pod itself: TCP whose row is lost goes on, TCP that nobody asked for does not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ciliumpy.net import netns
from tests.bpf.node import DEFAULT_DENIED, EGRESS, ENFORCE_EGRESS, FAR, FAR_IDENTITY, INGRESS, Node, Result
from tests.bpf.packets import ACK, FIN, PSH, RST, SYN, tcp, udp

pytestmark = pytest.mark.root


class PodNamespace:
    """Where the pod's sockets are. Both ends of each connection live there: the far one's address is on loopback."""

    def __init__(self) -> None:
        self.fd = netns.new_namespace()
        self._sockets: list[socket.socket] = []

    def run(self, function: Any, *arguments: Any) -> Any:
        return netns.run_in(self.fd, function, *arguments)

    def set_up(self, addresses: list[str]) -> None:
        from pyroute2 import IPRoute

        with IPRoute() as ipr:
            ipr.link("set", index=1, state="up")
            for address in addresses:
                ipr.addr("add", index=1, address=address, prefixlen=128 if ":" in address else 32)
            ipr.route("add", dst="203.0.113.0/24", oif=1)
            ipr.route("add", dst="2001:db8:dead::/64", oif=1, family=socket.AF_INET6)

    def listen(self, address: str, port: int) -> socket.socket:
        listener = self._socket(address, port)
        listener.listen()
        return listener

    def connect(self, client: tuple[str, int], server: tuple[str, int]) -> tuple[socket.socket, socket.socket]:
        listener = self.listen(*server)
        mine = self._socket(*client)
        mine.connect(server)
        theirs, _ = listener.accept()
        self._sockets.append(theirs)
        listener.close()
        return mine, theirs

    def begin(self, client: tuple[str, int], server: tuple[str, int]) -> None:
        """A connection that nobody answers."""
        mine = self._socket(*client)
        mine.setblocking(False)
        mine.connect_ex(server)

    def _socket(self, address: str, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        return made

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        os.close(self.fd)


@pytest.fixture
def inside(node: Node) -> Iterator[PodNamespace]:
    """Of the first pod; the node knows it by its number."""
    from pyroute2 import IPRoute

    made = PodNamespace()
    try:
        one = node.pods[0]
        made.run(made.set_up, [*one.ip.values(), *FAR.values(), *node.pods[1].ip.values()])
        with IPRoute() as ipr:
            ipr.set_netnsid(fd=made.fd)  # what the kernel does for a veth that ends there
        one.netns = netns.number_of(made.fd) + 1
        node.plug(one)
        yield made
    finally:
        made.close()


@pytest.fixture
def overlay_node(make_node: Any) -> Node:
    return make_node("overlay_test")


@pytest.fixture
def node(overlay_node: Node) -> Node:
    return overlay_node


def rows(node: Node, version: int) -> int:
    return len(node.rows(version)[0])


class Remote:
    """A TCP connection between the first pod and one of another node; the pod's end is in its namespace."""

    def __init__(self, node: Node, inside: PodNamespace, version: int, *, pod_began: bool = True) -> None:
        self.node, self.one, self.pod_began = node, node.pods[0], pod_began
        near, far = (self.one.ip[version], 4000), (FAR[version], 80)
        inside.run(inside.connect, *((near, far) if pod_began else (far, near)))
        self.there, self.back = (near[0], far[0], near[1], far[1]), (far[0], near[0], far[1], near[1])

    def send(self, flags: int) -> Result:
        """What the pod says."""
        return self.node.pod(self.one, tcp(*self.there, flags))

    def hear(self, flags: int) -> Result:
        """What the other says."""
        return self.node.overlay(tcp(*self.back, flags, b"data"), vni=FAR_IDENTITY)

    def open(self) -> None:
        ask, answer = (self.send, self.hear) if self.pod_began else (self.hear, self.send)
        assert all(result.passed for result in (ask(SYN), answer(SYN | ACK), ask(ACK)))


def test_9_evicted_and_the_answer_comes_first(node: Node, inside: PodNamespace, version: int) -> None:
    """The client takes no questions; its server is elsewhere."""
    one, talk = node.pods[0], Remote(node, inside, version)
    node.policy(one, INGRESS)
    talk.open()
    node.forget(version)

    for flags in (ACK, ACK | PSH, FIN | ACK, RST):
        result = talk.hear(flags)
        assert result.passed
        assert result.read.eth_dst == one.mac
        assert rows(node, version) == 0
    assert talk.send(ACK).passed
    assert rows(node, version) == 1
    written = int(node.row(version)["nonce"])
    assert talk.hear(ACK).passed
    assert talk.hear(ACK).passed
    assert int(node.row(version)["nonce"]) == written + 1  # one half is learned now, and replayed


def test_9_what_nobody_asked_for_is_dropped(node: Node, inside: PodNamespace, version: int) -> None:
    """From a server and a port that the pod may ask; it even has a connection there, but another."""
    one, far, talk = node.pods[0], FAR[version], Remote(node, inside, version)
    node.policy(one, INGRESS)
    talk.open()
    node.forget(version)
    inside.run(inside.listen, one.ip[version], 4001)
    for sport, dport in ((80, 4001), (80, 4002), (81, 4000)):
        for flags in (ACK, SYN | ACK, FIN | ACK, RST):
            assert node.overlay(tcp(far, one.ip[version], sport, dport, flags), vni=FAR_IDENTITY).reason == 133
    assert talk.hear(SYN).reason == 133  # a question
    assert node.overlay(udp(far, one.ip[version], 80, 4000), vni=FAR_IDENTITY).reason == 133
    assert rows(node, version) == 0
    assert talk.hear(ACK).passed


def test_9_a_connection_that_may_not_be_is_none(node: Node, inside: PodNamespace, version: int) -> None:
    one, talk = node.pods[0], Remote(node, inside, version)
    talk.open()
    node.forget(version)
    one.flags |= ENFORCE_EGRESS
    node.policy(one, INGRESS)
    result = talk.hear(ACK)
    assert result.reason == 133
    assert result.events[0]["file"] == 7  # policy.h: of the packet itself
    assert result.events[0]["ingress"]["verdict"] == DEFAULT_DENIED


def test_9_what_was_revoked_stays_revoked(node: Node, inside: PodNamespace, version: int) -> None:
    """The pod has a socket of it, and may itself ask whom it does not let ask any more; but it did not begin."""
    one, talk = node.pods[0], Remote(node, inside, version, pod_began=False)
    talk.open()
    node.policy(one, INGRESS)
    assert talk.hear(ACK | PSH).reason == 133
    node.forget(version)  # it was pushed out
    assert talk.hear(ACK | PSH).reason == 133
    one.flags |= ENFORCE_EGRESS
    node.policy(one, EGRESS)
    assert talk.send(ACK).reason == 133


def test_9_what_was_found_in_its_middle_marks_nobody(node: Node, inside: PodNamespace, version: int) -> None:
    """Its row may be the wrong way round."""
    one, talk = node.pods[0], Remote(node, inside, version, pod_began=False)
    talk.open()
    node.forget(version)
    for _ in range(2):
        assert talk.send(ACK).passed
        assert talk.hear(ACK).passed
    assert talk.send(ACK).passed
    node.forget(version)
    node.policy(one, INGRESS)
    assert talk.hear(ACK).reason == 133


def test_9_between_two_pods(node: Node, inside: PodNamespace, version: int) -> None:
    one, two, _ = node.pods
    ask, answer = (one.ip[version], two.ip[version], 4000, 80), (two.ip[version], one.ip[version], 80, 4000)
    inside.run(inside.connect, (one.ip[version], 4000), (two.ip[version], 80))
    for pod, packet in ((one, tcp(*ask, SYN)), (two, tcp(*answer, SYN | ACK)), (one, tcp(*ask, ACK))):
        assert node.pod(pod, packet).passed
    node.forget(version)
    node.policy(one, INGRESS)
    node.policy(two, EGRESS)
    assert node.pod(two, tcp(*answer, ACK)).passed
    assert node.pod(two, tcp(two.ip[version], one.ip[version], 80, 4001, ACK)).reason == 133


def test_9_the_answer_to_a_question_that_was_pushed_out(node: Node, inside: PodNamespace, version: int) -> None:
    """A socket that waits for its answer has begun: a flood of others does not keep it from opening."""
    one, peer = node.pods[0], "203.0.113.7" if version == 4 else "2001:db8:dead::7"
    node.policy(one, INGRESS)
    inside.run(inside.begin, (one.ip[version], 4000), (peer, 80))
    assert node.netdev(tcp(peer, one.ip[version], 80, 4000, SYN | ACK)).passed
    assert node.netdev(tcp(peer, one.ip[version], 80, 4001, SYN | ACK)).reason == 133


def test_9_without_a_namespace_nobody_is_asked(node: Node, inside: PodNamespace, version: int) -> None:
    one, talk = node.pods[0], Remote(node, inside, version)
    talk.open()
    node.forget(version)
    node.policy(one, INGRESS)
    known = one.netns
    for number in (0, 1 << 20, 1 << 31, known):
        one.netns = number
        node.plug(one)
        assert talk.hear(ACK).passed == (number == known)
