# SPDX-License-Identifier: Apache-2.0
"""Rules that call ports by name, towards peers that have other numbers for them, or get other identities."""

from __future__ import annotations

from ciliumpy.enforcement.pod_ports import STAY_S
from ciliumpy.model.verdicts import Direction
from tests.unit.enforcement.world import World, calling


async def test_egress_to_a_named_port_goes_to_each_peers_own_number():
    world = World()
    for number, name in ((300, "web"), (301, "api"), (302, "api")):
        world.identity(number, f"k8s:app={name}", f"k8s:n={number}")
    world.endpoint(1, 300)
    world.endpoint(2, 301, http=80)
    world.endpoint(3, 302, http=8080)
    world.policy("p", calling("web", "api", Direction.EGRESS))
    await world.settle()
    answers = {(p, n): world.verdict(300, p, Direction.EGRESS, n) for p in (301, 302) for n in (80, 8080)}
    assert answers == {(301, 80): "allowed", (301, 8080): "denied", (302, 80): "denied", (302, 8080): "allowed"}
    world.endpoint(3, 302, http=9090)
    await world.settle()
    assert world.verdict(300, 302, Direction.EGRESS, 9090) == "allowed"
    assert world.verdict(300, 302, Direction.EGRESS, 8080) == "allowed", "until the kernels have let go of what was"
    world.clock.later_s += STAY_S
    await world.settle()
    assert world.verdict(300, 302, Direction.EGRESS, 8080) == "denied"
    world.no_endpoint(3)
    world.clock.later_s += STAY_S
    await world.settle()
    assert world.verdict(300, 302, Direction.EGRESS, 9090) == "allowed"
    world.clock.later_s += STAY_S
    await world.settle()
    assert world.verdict(300, 302, Direction.EGRESS, 9090) == "denied"


async def test_a_pod_with_a_new_identity_keeps_its_ports_under_the_former_one_for_a_while():
    """The kernel judges it by the former until the set of the new one is there: a denial by name must hold."""
    world = World()
    for number, name in ((300, "web"), (301, "api"), (302, "other")):
        world.identity(number, f"k8s:app={name}")
    world.endpoint(1, 300)
    world.endpoint(2, 301, http=80)
    world.policy("p", calling("web", "api", Direction.EGRESS))
    await world.settle()
    world.endpoint(2, 302, http=80)
    await world.settle()
    assert world.verdict(300, 301, Direction.EGRESS, 80) == "allowed"
    world.clock.later_s += STAY_S
    await world.settle()
    assert world.verdict(300, 301, Direction.EGRESS, 80) == "denied"
