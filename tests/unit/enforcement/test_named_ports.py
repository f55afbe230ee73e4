# SPDX-License-Identifier: Apache-2.0
"""Rules that call ports by name, towards peers that have other numbers for them, or get other identities."""

from __future__ import annotations

import msgspec

from ciliumpy.enforcement.pod_ports import STAY_S
from ciliumpy.model.rule import Rule
from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.enforcement import CALLED_PODS, CALLED_WAIT_S
from tests.unit.enforcement.world import World, app, calling


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


async def test_a_pod_that_becomes_another_is_that_one_when_its_ports_are_known_there():
    """The other identity is in the kernel already, of a pod without such a port: its vector does not know the name."""
    world = World()
    for number, name in ((300, "web"), (301, "db"), (302, "other")):
        world.identity(number, f"k8s:app={name}")
    world.endpoint(1, 300)
    world.endpoint(2, 302, http=8080)
    world.endpoint(3, 301)
    world.endpoint(4, 302)
    barred = msgspec.structs.replace(calling("web", "db", Direction.EGRESS), verdict=Verdict.DENY)
    every = Rule("spec.all", app("web"), Direction.EGRESS, Verdict.ALLOW, None, None)
    world.policy("p", barred, every)
    await world.settle()
    held = world.db.table(KERNEL_ENDPOINTS)
    assert world.verdict(1, 301, Direction.EGRESS, 8080) == "allowed", "nobody has that port there"
    world.endpoint(2, 301, http=8080)
    seen = []
    for step in (world.kernel.take_sets, world.controller.round, world.kernel.take_sets, world.controller.round) * 3:
        if done := step():
            await done
        world.kernel.take_sets()
        seen.append(held.get(2).identity)
        assert (held.get(2).identity, world.verdict(1, 301, Direction.EGRESS, 8080)) != (301, "allowed")
    assert seen[0] == 302
    assert seen[-1] == 301
    world.endpoint(3, 302)
    world.kernel.take_sets()
    assert held.get(3).identity == 302, "without named ports there is nothing to wait for"


async def test_nobody_waits_for_ever_to_be_called_by_its_ports():
    world = World()
    for number, name in ((301, "db"), (302, "other")):
        world.identity(number, f"k8s:app={name}")
    world.endpoint(2, 302, http=8080)
    world.endpoint(3, 301)
    await world.settle()
    world.endpoint(2, 301, http=8080)
    held = world.db.table(KERNEL_ENDPOINTS)
    for later_s, identity in ((0.0, 302), (CALLED_WAIT_S - 0.5, 302), (CALLED_WAIT_S + 0.5, 301)):
        world.clock.later_s = later_s
        world.kernel.take_sets()
        assert held.get(2).identity == identity
    await world.settle()
    called = world.db.table(CALLED_PODS)
    assert [(row.pod, row.identity) for row in called.all()] == [("p2", 301)]
    world.no_endpoint(2)
    await world.settle()
    assert len(called) == 0, "nothing stays of a pod that is gone"
