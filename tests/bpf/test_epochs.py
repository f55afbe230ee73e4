# SPDX-License-Identifier: Apache-2.0
"""Guard 6: what ipcache says of one peer concerns the flows with that peer, and no others."""

from __future__ import annotations

import ipaddress
import random
from typing import TYPE_CHECKING

import pytest

from ciliumpy.datapath.epochs import BUCKET_BITS, Epochs, bucket_of
from tests.bpf.node import (
    EGRESS,
    ENFORCE_EGRESS,
    ENFORCE_INGRESS,
    FAR,
    FAR_IDENTITY,
    INGRESS,
    TUNNEL,
    WORLD,
    Level,
    Node,
    Pod,
    Result,
)
from tests.bpf.packets import udp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
FLOWS = 300
CHANGES = 500  # ten seconds of 50 a second


def slow_runs(node: Node, *results: Result) -> int:
    """Of packets that all passed: each slow run writes a row, each write takes a number."""
    assert all(result.passed for result in results)
    return int(node.maps["cp_flowseq_v2"].lookup(bytes(4)))


def network(version: int, number: int) -> str:
    """One of many /24s or /64s of the world."""
    base = int(ipaddress.ip_address("100.64.0.9" if version == 4 else "2001:db8:1::9"))
    return str(ipaddress.ip_address(base + (number << (8 if version == 4 else 64))))


def test_6_buckets_are_as_many_as_the_datapath_has(node: Node) -> None:
    assert node.maps["cp_ipepoch_v1"].max_entries == 1 << BUCKET_BITS


def test_6_a_peers_bucket_is_the_same_on_both_sides(node: Node, version: int) -> None:
    """User space bumps it, the datapath compares it: of any peer, and of the right one alone."""
    one, epochs, dice = node.pods[0], Epochs(node.maps), random.Random(version)
    peers = list({bucket_of(f"{a}/{32 if version == 4 else 128}"): a for a in _anybody(version, dice)}.values())
    questions = [udp(one.ip[version], peer, 4000, 53) for peer in peers]
    slow_runs(node, *(node.pod(one, question) for question in questions))
    for at in range(0, len(peers), 7):
        epochs.bump_peers([f"{peers[at]}/{32 if version == 4 else 128}"])
        for other in (at, (at + 1) % len(peers)):
            before = slow_runs(node)
            assert slow_runs(node, node.pod(one, questions[other])) - before == (other == at)


def _anybody(version: int, dice: random.Random) -> list[str]:
    """Unicast addresses of the world."""
    if version == 4:
        return [str(ipaddress.ip_address(dice.randrange(0x0B000000, 0x64000000))) for _ in range(60)]
    return [str(ipaddress.ip_address(0x2000 << 112 | dice.getrandbits(125))) for _ in range(60)]


def test_6_changes_of_others_cost_a_flow_nothing(make_node: Callable[..., Node], version: int) -> None:
    node = make_node()
    one, epochs, bits = node.pods[0], Epochs(node.maps), 32 if version == 4 else 128
    peers = [network(version, number) for number in range(FLOWS)]
    there = [udp(one.ip[version], peer, 4000, 53) for peer in peers]
    back = [udp(peer, one.ip[version], 53, 4000) for peer in peers]
    slow_runs(node, *(node.pod(one, packet) for packet in there), *(node.netdev(packet) for packet in back))
    ours = {bucket_of(f"{peer}/{bits}") for peer in peers}
    changed = [network(version, number) for number in range(FLOWS, FLOWS + CHANGES)]
    changed = [peer for peer in changed if bucket_of(f"{peer}/{bits}") not in ours]  # by chance some share one
    before = slow_runs(node)

    for start in range(0, len(changed), 50):
        for peer in changed[start : start + 50]:
            node.ipcache(peer, 16777300)
        epochs.bump_peers(f"{peer}/{bits}" for peer in changed[start : start + 50])
        slow_runs(node, *(node.pod(one, packet) for packet in there), *(node.netdev(packet) for packet in back))

    assert len(changed) > CHANGES * 0.8
    assert slow_runs(node) == before


def only(node: Node, pod: Pod, way: int) -> None:
    """Who meets selector 3 may, in one direction; nobody in the other."""
    pod.flags |= ENFORCE_INGRESS | ENFORCE_EGRESS
    node.policy(pod, way, default=node.port_class(Level(bits=(3,))))


@pytest.mark.parametrize("way", [EGRESS, INGRESS])
def test_6_a_changed_peer_is_judged_again_at_its_next_packet(
    make_node: Callable[..., Node], version: int, way: int
) -> None:
    """In both halves of the flow, whoever began it."""
    node = make_node("overlay_test")
    one, epochs = node.pods[0], Epochs(node.maps)
    bits = 32 if version == 4 else 128
    node.vector(FAR_IDENTITY, 3)
    only(node, one, way)
    there, back = udp(one.ip[version], FAR[version], 4000, 53), udp(FAR[version], one.ip[version], 53, 4000)
    for first in (there, back) if way == EGRESS else (back, there):
        before = slow_runs(node, node.pod(one, first) if first is there else node.overlay(first))
    assert slow_runs(node, node.pod(one, there), node.overlay(back)) == before

    node.ipcache(FAR[version], 4711, flags=TUNNEL, tunnel="192.168.9.2")
    epochs.bump_peers([f"{FAR[version]}/{bits}"])

    # The tunnel says who the sender is, so that of what it began only the answer is looked up.
    for result in (node.overlay(back, vni=4711), node.pod(one, there)):
        assert result.reason == 133


@pytest.mark.parametrize("way", [EGRESS, INGRESS])
def test_6_a_changed_peer_in_the_world_too(node: Node, version: int, way: int) -> None:
    one, epochs = node.pods[0], Epochs(node.maps)
    node.ipcache(WORLD[version], 16777301)
    node.vector(16777301, 3)
    only(node, one, way)
    there, back = udp(one.ip[version], WORLD[version], 4000, 53), udp(WORLD[version], one.ip[version], 53, 4000)
    for first in (there, back) if way == EGRESS else (back, there):
        slow_runs(node, node.pod(one, first) if first is there else node.netdev(first))

    node.ipcache(WORLD[version], 16777302)
    epochs.bump_peers([f"{WORLD[version]}/{'32' if version == 4 else '128'}"])

    assert node.netdev(back).reason == 133
    assert node.pod(one, there).reason == 133


def test_6_what_the_host_sends_depends_on_its_peer(node: Node, version: int) -> None:
    """A slot 0 at both ends: each has the epoch of its address."""
    epochs, question = Epochs(node.maps), udp("10.244.1.1" if version == 4 else "fd00:10:244:1::1", FAR[version], 1, 2)
    before = slow_runs(node, node.host(question))
    assert slow_runs(node, node.host(question)) == before
    epochs.bump_peers([f"{FAR[version]}/{'24' if version == 4 else '64'}"])

    assert slow_runs(node, node.host(question)) == before + 1


def test_6_a_wide_prefix_concerns_everybody(node: Node, version: int) -> None:
    one, epochs = node.pods[0], Epochs(node.maps)
    question = udp(one.ip[version], WORLD[version], 4000, 53)
    before = slow_runs(node, node.pod(one, question))
    epochs.bump_peers(["203.0.113.0/24", "2001:db8:77::/64"])
    assert slow_runs(node, node.pod(one, question)) == before
    epochs.bump_peers(["203.0.112.0/23" if version == 4 else "2001:db8:76::/63"])

    assert slow_runs(node, node.pod(one, question)) == before + 1
