# SPDX-License-Identifier: Apache-2.0
"""Frames with bytes changed, cut off and made up: every one gets a verdict, and none passes in another's name."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import NEXT, OK, REDIRECT, ROUTER, SHOT, WORLD, Node
from tests.bpf.packets import SYN, Read, echo, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
FRAMES = 3000
SHORTEST = 54  # a test run takes no frame without a whole IP header


def seeds(node: Node) -> list[bytes]:
    one, two, _ = node.pods
    found = [packets.arp_request(one.mac, one.ip[4], ROUTER[4])]
    found += [packets.neighbour_solicitation(one.mac, one.ip[6], ROUTER[6])]
    for version in (4, 6):
        ends = one.ip[version], two.ip[version]
        inner = udp(two.ip[version], one.ip[version], 53, 4000)
        for payload in (tcp(*ends, 1, 2, SYN), udp(*ends, 1, 2), echo(*ends, 1), unreachable(*ends, inner)):
            found.append(node.framed(payload, one.host_mac, one.mac))
    options = bytes([packets.TCP, 0, 1, 4, 0, 0, 0, 0])
    chain = packets.ip(one.ip[6], two.ip[6], 60, options + tcp(one.ip[6], two.ip[6], 1, 2, SYN)[40:])
    return [*found, node.framed(chain, one.host_mac, one.mac)]


def spoil(frame: bytes, dice: random.Random) -> bytes:
    changed = bytearray(frame)
    for _ in range(dice.choice((0, 1, 1, 2, 8))):
        changed[dice.randrange(len(changed))] = dice.choice((0, 1, 0xFF, dice.randrange(256)))
    if dice.random() < 0.3:
        del changed[max(SHORTEST, dice.randrange(len(changed))) :]
    return bytes(changed) + (dice.randbytes(dice.randrange(300)) if dice.random() < 0.1 else b"")


@pytest.mark.parametrize(
    ("hook", "firewall"),
    [("pod", 0), ("overlay", 0), ("host", 0), ("netdev", 0), ("netdev", 1), ("uplink", 1)],
)
def test_garbage(make_node: Callable[..., Node], hook: str, firewall: int) -> None:
    node, dice = make_node("overlay_test", cfg_host_firewall=firewall), random.Random(hook)
    one = node.pods[0]
    native = hook in ("netdev", "uplink")
    whole, ifindex = seeds(node), {"pod": one.ifindex, "overlay": node.devices["vxlan"]}.get(hook, node.devices["eth0"])
    passed = 0

    for _ in range(FRAMES):
        frame = spoil(dice.choice(whole), dice)
        result = node.run(hook, frame, ifindex, cb=(dice.choice((3000, 2, 6, 1)), 0x0209A8C0))
        assert result.verdict in {NEXT if native else OK, SHOT, REDIRECT}
        if hook == "pod" and result.passed and Read(frame).kind != packets.ETH_ARP:
            answered = Read(frame).protocol == packets.ICMPV6 and Read(frame).src.startswith("fe80")
            assert Read(frame).src in one.ip.values() or answered
            passed += 1

    assert hook != "pod" or passed > FRAMES // 10
    assert node.netdev(udp(WORLD[4], one.ip[4], 1, 2)).passed  # and it still works
