# SPDX-License-Identifier: Apache-2.0
"""Policies that wait until the kernel judges the addresses that they name as they mean: closed, and alone."""

from __future__ import annotations

from ciliumpy.model.verdicts import Direction
from ciliumpy.tables.enforcement import POLICY_SETS
from tests.unit.enforcement.world import World, allow, outside


async def test_a_prefix_that_the_kernel_has_no_room_for_holds_only_what_names_it():
    world = World(former={1})
    for number, name in ((300, "web"), (301, "db")):
        world.identity(number, f"k8s:app={name}")
        world.endpoint(number - 299, number)
    world.full = {"192.0.2.0/24"}
    world.policy("p", outside("192.0.2.0/24"))
    world.policy("of both", allow("web", "web"), allow("db", "web"))
    await world.settle()
    assert [row.identity for row in world.db.table(POLICY_SETS).all()] == [301], "the former agent's set holds web"
    state, why = world.status("p")
    assert state == "error"
    assert "it waits for prefix 192.0.2.0/24, which the kernel does not take: map cp_ipcidr_v1 is full" in why
    world.no_policy("p")
    await world.settle()
    assert {row.identity for row in world.db.table(POLICY_SETS).all()} == {300, 301}

    world.policy("p", outside("192.0.2.0/24"))
    world.policy("q", allow("web", "db"))
    world.identity(302, "k8s:app=web", "k8s:new=yes")
    world.endpoint(3, 302)
    await world.settle()
    assert world.status("q")[0] != "done", "a pod that came since has no set yet"
    assert world.verdict(300, 301, Direction.INGRESS, 80) == "allowed", "the others' are as without it"
    assert 302 not in {row.identity for row in world.db.table(POLICY_SETS).all()}, "it would be open"
    world.full = set()
    await world.settle()
    assert world.status("p") == world.status("q") == ("done", "")
    assert 302 in {row.identity for row in world.db.table(POLICY_SETS).all()}
