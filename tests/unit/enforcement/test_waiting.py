# SPDX-License-Identifier: Apache-2.0
"""Policies that wait until the kernel judges the addresses that they name as they mean: closed, and alone."""

from __future__ import annotations

from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.verdicts import Direction
from ciliumpy.tables.enforcement import POLICY_SETS
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
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


def placed(world: World, address: str, identity: int, node: str = "") -> None:
    """The kernel knows a pod's address by that identity."""
    rows = world.db.table(IPCACHE)
    with world.db.write() as txn:
        txn.upsert(IPCACHE, IPCacheEntry(f"{address}/32", identity, source="endpoint", pod="peer", node=node))
    rows.set_status(f"{address}/32", rows.revision_of(f"{address}/32"), "done")


async def test_an_exception_holds_its_policy_until_the_pods_in_it_are_known_by_it():
    world = World(options=PolicyOptions(cidr_match_mode=("pods",)))
    world.identity(300, "k8s:app=web", "cidr:10.244.0.0/16")
    world.endpoint(1, 300)
    world.identity(301, "k8s:app=peer", "cidr:10.244.0.0/16")
    world.identity(302, "k8s:app=peer", "cidr:10.244.1.0/24")
    world.identity(5, "reserved:init")
    placed(world, "10.244.1.7", 301, "b")
    placed(world, "10.244.1.8", 5, "b")
    world.policy("p", outside("10.244.0.0/16"))
    await world.settle()
    assert world.status("p") == ("done", "")
    assert world.verdict(300, 301, Direction.EGRESS, 80) == "allowed"

    world.policy("p", outside("10.244.0.0/16", "10.244.1.0/24"))
    world.policy("other", allow("web", "peer"))
    await world.settle()
    assert world.status("p")[0] != "done"
    assert world.status("other") == ("done", ""), "nothing else waits"
    world.clock.later_s += 11
    await world.settle()
    state, why = world.status("p")
    assert state == "error"
    assert "it waits for pod /peer on node b to get the label of prefix 10.244.1.0/24" in why
    with world.db.write() as txn:
        txn.upsert(IPCACHE, IPCacheEntry("10.244.1.7/32", 302, source="endpoint", pod="peer", node="b"))
    await world.settle()
    assert world.status("p")[0] != "done", "the kernel has not got it yet"
    placed(world, "10.244.1.7", 302, "b")
    await world.settle()
    assert world.status("p") == ("done", "")
    assert world.verdict(300, 302, Direction.EGRESS, 80) != "allowed"
