# SPDX-License-Identifier: Apache-2.0
"""The controller against a kernel that writes rows one table at a time, late, and keeps sets for a while."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciliumpy.enforcement.memory import FileMemory
from ciliumpy.model.rule import Rule
from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS, SELECTOR_BITS, PolicySet
from ciliumpy.tables.identities import CIDR_PREFIXES, IDENTITIES, Identity
from ciliumpy.tables.source import CIDR_GROUPS, POLICIES, CidrGroup, Policy
from tests.soak import scaled
from tests.unit.enforcement.world import SIZE, Disk, World, allow, app, calling, outside


async def test_a_policy_becomes_a_set_and_is_reported_when_it_is_in_force():
    world = World()
    world.identity(300, "k8s:app=web")
    world.identity(301, "k8s:app=api")
    world.endpoint(1, 301)
    world.policy("p", allow("api", "web"))
    await world.controller.round()
    assert world.status("p")[0] == "pending"
    await world.settle()
    assert world.status("p") == ("done", "")
    assert world.verdict(301, 300, Direction.INGRESS, 80) == "allowed"
    assert world.verdict(301, 300, Direction.INGRESS, 81) == "denied"
    [row] = world.db.table(POLICY_SETS).all()
    assert (row.ingress_enforced, row.egress_enforced, row.current) == (True, False, True)
    counts = world.controller.counts
    # One bit for the peer, one for the host, who always reaches his pods.
    assert (counts.policies, counts.sets, counts.bits) == (1, 1, 2)


async def test_an_endpoint_that_no_rule_selects_has_an_open_set():
    world = World()
    world.identity(300, "k8s:app=web")
    world.endpoint(1, 300)
    await world.settle()
    assert world.verdict(300, 300, Direction.INGRESS, 80) == "allowed"


async def test_replicas_share_a_set_until_a_rule_names_a_port_that_they_have_not_alike():
    world = World()
    world.identity(300, "k8s:app=web")
    world.identity(301, "k8s:app=api")
    for number, port in ((1, 80), (2, 80), (3, 8080)):
        world.endpoint(number, 300, http=port)
    world.policy("p", allow("web", "api"))
    await world.settle()
    assert len(set(world.kernel.slots.values())) == len(world.kernel.sets) == 1
    world.policy("p", calling("web", "api"))
    await world.controller.round()
    world.kernel.take_sets()
    await world.controller.round()
    assert world.status("p")[0] == "pending", "the former set is still announced, a new pod would get it"
    await world.settle()
    assert world.status("p") == ("done", "")
    assert len(world.kernel.sets) == 2
    for endpoint, open_port in ((1, 80), (2, 80), (3, 8080)):
        for port in (80, 8080):
            found = world.verdict(endpoint, 301, Direction.INGRESS, port)
            assert found == ("allowed" if port == open_port else "denied")
    world.endpoint(3, 300, http=80)
    world.policy("q", allow("web", "api", port=9))
    await world.settle()
    assert len(world.kernel.sets) == 1
    world.policy("p", allow("web", "api"))
    await world.settle()
    assert world.verdict(3, 301, Direction.INGRESS, 80) == "allowed"
    assert [row.named_ports for row in world.db.table(POLICY_SETS).all()] == [None]


async def test_a_policy_with_prefixes_counts_when_the_kernel_has_them_and_they_go_after_its_sets():
    world = World()
    world.identity(9, "reserved:world-ipv4")
    world.identity(300, "k8s:app=web")
    world.endpoint(1, 300)
    world.policy("p", allow("web", "web"))
    await world.settle()
    world.policy("p", outside("10.0.0.0/8", "10.1.0.0/16"))
    for _ in range(3):
        await world.controller.round()
        world.kernel.take_sets()
    prefixes = world.db.table(CIDR_PREFIXES)
    assert {row.prefix for row in prefixes.all()} == {"10.0.0.0/8", "10.1.0.0/16"}
    assert world.status("p")[0] == "pending"
    assert world.controller.counts.pending == 1
    assert world.verdict(300, 300, Direction.INGRESS, 81) == "denied", "the former version is in force"
    await world.settle()
    assert world.status("p") == ("done", "")
    reached = {
        address: world.verdict(300, world.identity_of(address), Direction.EGRESS, 80)
        for address in ("10.2.3.4", "10.1.2.3", "192.0.2.1")
    }
    assert reached == {"10.2.3.4": "allowed", "10.1.2.3": "denied", "192.0.2.1": "denied"}
    world.no_policy("p")
    for _ in range(4):
        await world.controller.round()
        world.kernel.take_sets()
        assert len(prefixes) == 2, "a set in the kernel still names them"
    await world.settle()
    assert len(prefixes) == 0


async def test_a_version_in_force_keeps_its_prefixes_while_the_next_one_waits_for_its_own():
    world = World()
    world.policy("p", outside("10.0.0.0/8", "10.1.0.0/16"))
    await world.settle()
    world.policy("p", outside("192.0.2.0/24"))
    await world.controller.round()
    asked = {row.prefix for row in world.db.table(CIDR_PREFIXES).all()}
    assert asked == {"10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"}, "a pod that comes now is judged by the former one"
    await world.settle()
    assert [row.prefix for row in world.db.table(CIDR_PREFIXES).all()] == ["192.0.2.0/24"]


async def test_groups_need_their_prefixes_as_long_as_they_have_them():
    world = World()
    with world.db.write() as txn:
        txn.upsert(CIDR_GROUPS, CidrGroup("g", (), ("10.0.0.0/8", "192.0.2.0/24")))
    await world.settle()
    assert {row.prefix for row in world.db.table(CIDR_PREFIXES).all()} == {"10.0.0.0/8", "192.0.2.0/24"}
    with world.db.write() as txn:
        txn.upsert(CIDR_GROUPS, CidrGroup("g", (), ("192.0.2.0/24",)))
    await world.settle()
    assert [row.prefix for row in world.db.table(CIDR_PREFIXES).all()] == ["192.0.2.0/24"]


async def test_after_a_start_no_set_is_written_before_the_prefixes_of_its_policies_are_there(tmp_path):
    memory = FileMemory(tmp_path / "bits.json", SIZE)
    first = World(memory=memory)
    first.identity(300, "k8s:app=web")
    first.endpoint(1, 300)
    first.policy("p", outside("10.0.0.0/8"))
    await first.settle()

    second = World(memory=memory, former={1})
    second.identity(300, "k8s:app=web")
    second.endpoint(1, 300)
    second.policy("p", outside("192.0.2.0/24"))
    second.policy("q", allow("web", "web"))
    await second.controller.round()
    asked = {row.prefix for row in second.db.table(CIDR_PREFIXES).all()}
    assert asked == {"10.0.0.0/8", "192.0.2.0/24"}, "former sets name the one"
    assert not second.db.table(POLICY_SETS).all(), "without the first policy it would be open"
    await second.settle()
    assert second.status("p") == second.status("q") == ("done", "")


async def test_a_bit_is_free_when_the_kernel_has_cleared_it_in_every_vector():
    world = World()
    for number, name in ((300, "web"), (301, "a")):
        world.identity(number, f"k8s:app={name}")
    world.endpoint(1, 300)
    world.policy("p", allow("web", "a"))
    await world.settle()
    taken = world.controller.counts.bits
    world.no_policy("p")
    for _ in range(2):
        await world.controller.round()
        world.kernel.take_sets()
        world.kernel.let_go()
    assert any(any(words) for words in world.kernel.vectors.values())
    for _ in range(3):  # no set names it: the vectors shall lose it
        await world.controller.round()
        assert world.controller.counts.bits == taken
    world.kernel.take_vectors()
    await world.controller.round()
    assert world.controller.counts.bits < taken


async def test_a_set_that_has_no_room_is_refused_whole_until_there_is():
    world = World(size=64)
    world.identity(300, "k8s:app=web")
    world.endpoint(1, 300)
    world.policy("fits", allow("web", "a"))
    await world.settle()
    before = world.db.table(POLICY_SETS).all()
    peers = tuple(app(f"peer-{i}") for i in range(70))
    world.policy("big", Rule("spec.egress[0]", app("web"), Direction.EGRESS, Verdict.ALLOW, peers, None))
    await world.settle()
    assert world.db.table(POLICY_SETS).all() == before, "the former set stays in force"
    state, why = world.status("big")
    assert state == "error"
    assert "it needs 70 more selectors, 62 of this node's 64 bits are free" in why
    assert world.status("fits") == ("done", ""), "the former set has it"
    world.policy("big", Rule("spec.egress[0]", app("web"), Direction.EGRESS, Verdict.ALLOW, peers[:5], None))
    await world.settle()
    assert world.status("big") == world.status("fits") == ("done", "")


def many(count: int) -> Rule:
    peers = tuple(app(f"peer-{i}") for i in range(count))
    return Rule("spec.egress[0]", app("web"), Direction.EGRESS, Verdict.ALLOW, (*peers, app("b")), None)


async def wide_world() -> World:
    """One that has 64 bits and can have 128; a set is in force that names two."""
    world = World(size=64, most=128)
    world.install(64)
    world.identity(300, "k8s:app=web")
    world.identity(301, "k8s:app=b")
    world.endpoint(1, 300)
    world.policy("fits", allow("web", "a"))
    await world.settle()
    assert (world.status("fits"), world.wanted()) == (("done", ""), 0)
    return world


async def test_more_selectors_than_bits_wait_for_room_and_others_do_not():
    world = await wide_world()
    before = world.db.table(POLICY_SETS).all()
    world.policy("big", many(69))
    world.identity(302, "k8s:app=other")
    world.endpoint(2, 302)
    world.policy("other", allow("other", "a", port=443))
    await world.settle()
    assert world.wanted() == 128
    assert world.status("big")[0] == "pending"
    assert world.controller.counts.pending
    assert [row for row in world.db.table(POLICY_SETS).all() if row.identity == 300] == before, "the former set stays"
    assert world.status("other") == ("done", "")
    world.install(128)
    await world.settle()
    assert world.status("big") == ("done", "")
    assert (world.controller.counts.bits_total, world.controller.counts.pending) == (128, 0)
    assert max(row.bit for row in world.db.table(SELECTOR_BITS).all()) >= 64
    assert world.verdict(1, 301, Direction.EGRESS, 80) == world.should(1, 301, Direction.EGRESS, 80) == "allowed"
    assert world.verdict(1, 302, Direction.EGRESS, 80) == world.should(1, 302, Direction.EGRESS, 80) == "denied"


async def test_where_there_cannot_be_more_bits_it_is_said_until_there_can():
    world = await wide_world()
    world.policy("big", many(69))
    await world.settle()
    world.install(64, "the verifier refuses it")
    await world.settle()
    state, why = world.status("big")
    assert state == "error"
    assert "62 of this node's 64 bits are free; there cannot be 128: the verifier refuses it" in why
    world.install(128)
    await world.settle()
    assert world.status("big") == ("done", "")


async def test_more_than_there_can_ever_be_is_refused_at_once():
    world = await wide_world()
    world.policy("big", many(130))
    await world.settle()
    assert world.wanted() == 0
    state, why = world.status("big")
    assert state == "error"
    assert "it needs 131 more selectors, 126 of this node's 128 bits are free" in why


async def test_what_the_kernel_refuses_is_said_on_the_policy_and_changes_nothing():
    world = World()
    world.identity(300, "k8s:app=web")
    world.endpoint(1, 300)
    world.policy("p", allow("web", "web"))
    await world.settle()
    world.kernel.refuses = "map cp_class_v2 is full"
    world.policy("p", allow("web", "web", port=81))
    await world.settle()
    assert world.status("p") == ("error", "map cp_class_v2 is full")
    assert world.verdict(300, 300, Direction.INGRESS, 80) == "allowed"
    assert world.verdict(300, 300, Direction.INGRESS, 81) == "denied"


async def test_a_set_whose_bits_cannot_be_written_down_waits_and_others_do_not():
    disk = Disk()
    world = World(memory=disk)
    for number, name in ((300, "web"), (301, "api"), (302, "new")):
        world.identity(number, f"k8s:app={name}")
    world.endpoint(1, 300)
    world.endpoint(2, 301)
    world.policy("known", allow("api", "web", port=79))
    await world.settle()
    disk.full = True
    world.policy("waits", allow("web", "new"))
    world.policy("fits", allow("api", "web"))
    await world.settle()
    state, why = world.status("waits")
    assert (state, why.endswith("cannot be written down: No space left on device")) == ("error", True)
    assert world.verdict(300, 301, Direction.INGRESS, 80) == "allowed", "the former set stays in force"
    assert world.status("fits") == ("done", "")
    assert world.verdict(301, 300, Direction.INGRESS, 80) == "allowed"
    disk.full = False
    await world.settle()
    assert world.status("waits") == ("done", "")
    assert world.verdict(300, 301, Direction.INGRESS, 80) == "denied"
    assert world.verdict(300, 302, Direction.INGRESS, 80) == "allowed"
    assert set(disk.kept.values()) >= {"k8s:app=new", "k8s:app=web"}


async def test_bits_are_free_again_only_when_the_kernel_has_let_go():
    world = World()
    world.identity(300, "k8s:app=web")
    world.endpoint(1, 300)
    world.policy("p", allow("web", "web"))
    await world.settle()
    [bit] = [row.bit for row in world.db.table(SELECTOR_BITS).all() if row.selector == "k8s:app=web"]
    world.no_policy("p")
    for _ in range(3):
        await world.controller.round()
        world.kernel.take_sets()
    assert world.db.table(SELECTOR_BITS).get(bit) is not None, "a set in the kernel still names it"
    await world.settle()
    assert len(world.db.table(SELECTOR_BITS)) == 0
    assert world.kernel.vectors[300] == bytes(SIZE // 8)


async def test_a_restarted_agent_gives_selectors_the_bits_they_had(tmp_path):
    memory = FileMemory(tmp_path / "bits.json", SIZE)
    first = World(memory=memory)
    first.identity(300, "k8s:app=web")
    first.endpoint(1, 300)
    first.policy("a", allow("web", "db"), allow("web", "web"))
    await first.settle()
    first.policy("a", allow("web", "web"))
    await first.settle()
    had = {row.selector: row.bit for row in first.db.table(SELECTOR_BITS).all()}

    second = World(memory=memory, former={1, 2})
    assert {row.selector: row.bit for row in second.db.table(SELECTOR_BITS).all()} == had
    second.identity(300, "k8s:app=web")
    await second.controller.round()
    second.kernel.take_vectors()
    assert second.kernel.vectors[300] == first.kernel.vectors[300], "former sets and new vectors agree at any time"
    second.endpoint(1, 300)
    second.policy("b", allow("web", "new"))
    await second.settle()
    now = {row.selector: row.bit for row in second.db.table(SELECTOR_BITS).all()}
    assert now["k8s:app=new"] not in had.values(), "the bits of former sets were not free yet"
    assert min(row.id for row in second.kernel.sets.values()) == 3


async def test_without_memory_former_sets_do_not_meet_our_vectors(tmp_path):
    world = World(memory=FileMemory(tmp_path / "bits.json", SIZE), former={1, 2})
    assert not world.kernel.former
    assert FileMemory(tmp_path / "bits.json", SIZE).load() == {}


names = st.sampled_from(["web", "api", "db"])
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("policy"),
            st.sampled_from("pq"),
            st.lists(
                st.builds(allow, names, names, st.sampled_from([80, 81]), st.sampled_from(Verdict))
                | st.builds(calling, names, names, st.sampled_from(Direction)),
                max_size=3,
            ),
        ),
        st.tuples(
            st.just("policy"),
            st.sampled_from("pq"),
            st.lists(
                st.builds(
                    outside,
                    st.sampled_from(["10.0.0.0/8", "10.1.0.0/16"]),
                    st.sampled_from(["10.1.2.0/24", "10.1.0.0/16"]),
                    verdict=st.sampled_from([Verdict.ALLOW, Verdict.DENY]),
                ),
                max_size=2,
            ),
        ),
        st.tuples(st.just("no policy"), st.sampled_from("pq")),
        st.tuples(st.just("identity"), st.integers(300, 302), names),
        st.tuples(
            st.just("endpoint"),
            st.integers(1, 3),
            st.integers(300, 302),
            st.sampled_from([{}, {"http": 80}, {"http": 82}]),
        ),
        st.tuples(st.just("no endpoint"), st.integers(1, 3)),
        st.sampled_from(
            [("round",), ("prefixes",), ("vectors",), ("sets",), ("let go",), ("disk", True), ("disk", False)]
        ),
    ),
    max_size=30,
)


@settings(max_examples=scaled(100), deadline=None)
@given(steps)
async def test_whatever_happens_in_whatever_order(found):
    """At every moment the kernel's sets and vectors agree about bits; in the end the verdicts are the rules'."""
    disk = Disk()
    world = World(memory=disk)
    world.identity(9, "reserved:world-ipv4")
    for number in (300, 301, 302):
        world.identity(number, "k8s:app=web")
    meant: dict[int, dict[int, str]] = {}  # set -> bit -> selector
    for step in found:
        match step:
            case "policy", name, rules:
                world.policy(name, *rules)
            case "no policy", name:
                world.no_policy(name)
            case "identity", number, name:
                world.identity(number, f"k8s:app={name}")
            case "endpoint", number, identity, ports:
                world.endpoint(number, identity, **ports)
            case "no endpoint", number:
                world.no_endpoint(number)
            case ("round",):
                await world.controller.round()
            case ("prefixes",):
                world.place_prefixes()
            case ("vectors",):
                world.kernel.take_vectors()
            case ("sets",):
                world.kernel.take_sets()
            case ("let go",):
                world.kernel.let_go()
            case "disk", full:
                disk.full = full
        now = {row.bit: row.selector for row in world.db.table(SELECTOR_BITS).all()}
        for row in world.db.table(POLICY_SETS).all():
            meant.setdefault(row.id, {bit: now[bit] for bit in bits_of(row)})
        for number, row in world.kernel.sets.items():
            assert {bit: now[bit] for bit in bits_of(row)} == meant[number], "a bit changed its meaning under a set"
            assert {bit: disk.kept[bit] for bit in bits_of(row)} == meant[number], "the next agent must know it"
            asked = {row.prefix for row in world.db.table(CIDR_PREFIXES).all()}
            assert {hole for text in meant[number].values() for hole in re.findall("[0-9./]{9,}", text)} <= asked
    disk.full = False
    await world.settle()
    await world.settle()
    for endpoint in world.db.table(ENDPOINTS).all():
        outer = [world.identity_of(address) for address in ("10.2.0.1", "10.1.2.3", "10.1.3.4", "192.0.2.1")]
        for peer in (300, 301, 302, *outer):
            for direction in Direction:
                for port in (80, 81, 82):
                    asked = (endpoint.id, peer, direction, port)
                    assert world.verdict(*asked) == world.should(*asked)
    assert all(world.status(row.name)[0] == "done" for row in world.db.table(POLICIES).all())
    wanted = {one.policy_set for one in world.db.table(KERNEL_ENDPOINTS).all()}
    assert {row.id for row in world.db.table(POLICY_SETS).all()} == wanted


def bits_of(row: PolicySet) -> set[int]:
    masks = [int.from_bytes(level.mask, "little") for one in row.classes for level in one.levels]
    return {bit for bit in range(SIZE) if any(mask >> bit & 1 for mask in masks)}


async def test_a_round_over_much_lets_others_run():
    """10,000 identities and 1,000 policies are taken in slices."""
    world = World(size=1024)
    with world.db.write() as txn:
        for number in range(10_000):
            txn.upsert(IDENTITIES, Identity(300 + number, (f"k8s:app=a{number % 900}", f"k8s:n={number}")))
        for number in range(1000):
            rule = allow("a1" if number % 10 == 0 else f"a{number % 900}", f"a{number % 800}", port=number + 1)
            txn.upsert(POLICIES, Policy("CiliumNetworkPolicy", "default", f"p{number}", (rule,), "f"))
    for number in range(100):
        world.endpoint(number + 1, 300 + number)
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    watcher = asyncio.get_running_loop().create_task(watch())
    await world.controller.round()
    watcher.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watcher
    assert turns >= 10, "others have their turn while the round goes on"
    assert len(world.db.table(POLICY_SETS)) == 100
    world.kernel.take_sets()
    assert world.verdict(301, 300, Direction.INGRESS, 1) == world.should(301, 300, Direction.INGRESS, 1)
