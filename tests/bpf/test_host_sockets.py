# SPDX-License-Identifier: Apache-2.0
"""Guard 9 for the node itself: TCP whose row is lost goes on if the node began it, by its own sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from tests.bpf.host import close
from tests.bpf.node import INGRESS, NEXT, OWN_NODE, REMOTE_NODE, Node, Result
from tests.bpf.packets import ACK, FIN, RST, SYN, tcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root
PEER = {4: "203.0.113.77", 6: "2001:db8:77::7"}  # on this namespace's loopback for a while: both ends are here

NODAD = 2  # usable at once


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    made = make_node("overlay_test", cfg_host_firewall=1)
    made.plug(made.itself)
    return made


class Talk:
    """A connection between the node's port 4000 and the peer's 80."""

    def __init__(self, node: Node, version: int, *, node_begins: bool) -> None:
        self._node, self._ends = node, ((OWN_NODE[version], 4000), (PEER[version], 80))
        self._node_begins = node_begins
        begins, listens = self._ends if node_begins else self._ends[::-1]
        with self._socket(version, listens) as listener:
            listener.listen()
            self._one = self._socket(version, begins)
            self._one.connect(listens)
            self._other, _ = listener.accept()

    @staticmethod
    def _socket(version: int, at: tuple[str, int]) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(at)
        return made

    def send(self, flags: int) -> Result:
        (here, near), (there, far) = self._ends
        return self._node.uplink(tcp(here, there, near, far, flags))

    def hear(self, flags: int) -> Result:
        (here, near), (there, far) = self._ends
        return self._node.netdev(tcp(there, here, far, near, flags))

    def open(self) -> None:
        ask, answer = (self.send, self.hear) if self._node_begins else (self.hear, self.send)
        assert [result.verdict for result in (ask(SYN), answer(SYN | ACK), ask(ACK))] == [NEXT] * 3

    def close(self) -> None:
        self._one.close()
        self._other.close()


@pytest.fixture
def talk(node: Node, version: int) -> Iterator[Callable[..., Talk]]:
    made: list[Talk] = []

    def begin(*, node_begins: bool) -> Talk:
        made.append(Talk(node, version, node_begins=node_begins))
        return made[-1]

    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")
        ipr.addr("add", index=1, address=PEER[version], prefixlen=32 if version == 4 else 128, flags=NODAD)
        try:
            yield begin
        finally:
            for one in made:
                one.close()
            ipr.addr("del", index=1, address=PEER[version], prefixlen=32 if version == 4 else 128)


def test_9_what_the_node_began_goes_on(node: Node, talk: Callable[..., Talk], version: int) -> None:
    close(node, INGRESS, REMOTE_NODE)
    conversation = talk(node_begins=True)
    conversation.open()
    node.forget(version)

    for flags in (ACK, FIN | ACK, RST):
        assert conversation.hear(flags).verdict == NEXT
        assert len(node.rows(version)[0]) == 0
    assert conversation.hear(SYN).reason == 133
    assert conversation.send(ACK).verdict == NEXT
    assert len(node.rows(version)[0]) == 1


def test_9_what_the_node_was_asked_does_not(node: Node, talk: Callable[..., Talk], version: int) -> None:
    conversation = talk(node_begins=False)
    conversation.open()
    close(node, INGRESS, REMOTE_NODE)
    node.forget(version)

    for flags in (ACK, FIN | ACK, RST):
        assert conversation.hear(flags).reason == 133
