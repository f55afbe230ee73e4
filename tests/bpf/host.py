# SPDX-License-Identifier: Apache-2.0
"""What packet tests of the node's own policies share."""

from __future__ import annotations

from collections.abc import Callable

from tests.bpf.node import (
    EGRESS,
    ENFORCE_INGRESS,
    FAR_IDENTITY,
    HOST,
    REMOTE_NODE,
    WORLD4,
    WORLD6,
    Level,
    Node,
    Result,
)
from tests.bpf.packets import TCP

TUNNEL_PORT = 8472
WORLDS = {4: WORLD4, 6: WORLD6}
OTHER = {4: "192.168.9.77", 6: "fd00:9::77"}  # on the native link, nobody that we know
LINK_LOCAL, NEIGHBOUR = "fe80::1", "fe80::99"
BITS = {HOST: 1, WORLD4: 2, WORLD6: 3, REMOTE_NODE: 4, FAR_IDENTITY: 5, 1000: 6, 2000: 7}  # identity -> its selector
ESP = 50
TAKEN = {4: "192.168.9.255", 6: "fd00:9::"}  # by the stack; ipcache never has them
POD_DEVICE = 7  # any but none


def host_is_an_endpoint(make_node: Callable[..., Node]) -> Node:
    """A node whose host is one; no policy selects it yet."""
    made = make_node("overlay_test", cfg_host_firewall=1)
    made.plug(made.itself)
    return made


def close(node: Node, direction: int, *peers: int, port: int = 22, protocol: int = TCP) -> None:
    """The host's default is denial in one direction; `peers` may, to one port."""
    for identity, bit in BITS.items():
        node.vector(identity, bit)
    number = node.port_class(Level(bits=tuple(BITS[peer] for peer in peers))) if peers else 0
    node.policy(node.itself, direction, {(protocol, port): number} if number else None)


def verdicts(result: Result) -> tuple[int, int]:
    event = result.events[-1]
    return int(event["egress"]["verdict"]), int(event["ingress"]["verdict"])


def closed(node: Node) -> None:
    """Nothing may be said to the host, nor by it."""
    close(node, EGRESS)
    node.itself.flags |= ENFORCE_INGRESS
    node.plug(node.itself)
