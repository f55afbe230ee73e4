# SPDX-License-Identifier: Apache-2.0
"""The controller against a kernel that writes rows one table at a time, late, and keeps sets for a while."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciliumpy.enforcement.controller import Controller
from ciliumpy.enforcement.memory import FileMemory, Memory
from ciliumpy.model.labels import parse
from ciliumpy.model.ports import PortRange
from ciliumpy.model.rule import Rule
from ciliumpy.model.selectors import Selector, all_of, equals
from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.policy.compile import Named
from ciliumpy.policy.compiled import Bound
from ciliumpy.policy.oracle import judge
from ciliumpy.state.database import Database
from ciliumpy.tables.datapath import INSTALLED_SETS, InstalledSet
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import POLICY_SETS, SELECTOR_BITS, VECTORS, PolicySet
from ciliumpy.tables.identities import IDENTITIES, Identity
from ciliumpy.tables.source import POLICIES, Policy
from tests.soak import scaled
from tests.unit.policy.lookup import lookup

SIZE = 64


class Kernel:
    """Vectors and sets as maps hold them. Sets go in after vectors, and out when `let_go` says so."""

    def __init__(self, db: Database, former: set[int] = frozenset()) -> None:
        self.db = db
        self.vectors: dict[int, bytes] = {}
        self.sets: dict[int, PolicySet] = {}
        self.current: dict[int, int] = {}  # identity -> set
        self.former = set(former)
        self.refuses = ""
        self._vector_feed = db.table(VECTORS).observe("kernel")
        self._set_feed = db.table(POLICY_SETS).observe("kernel")

    def holds(self, number: int) -> bool:
        return number in self.sets

    def holds_former(self) -> bool:
        return bool(self.former)

    def drop_former(self) -> int:
        count = len(self.former)
        self.former.clear()
        return count

    def take_vectors(self) -> None:
        table = self.db.table(VECTORS)
        for change in self._vector_feed.take():
            if change.deleted:
                self.vectors.pop(change.row.identity, None)
            else:
                self.vectors[change.row.identity] = change.row.words
                table.set_status(change.row.identity, change.revision, "done")

    def take_sets(self) -> None:
        self.take_vectors()
        table = self.db.table(POLICY_SETS)
        for change in self._set_feed.take():
            row = change.row
            if change.deleted or not row.current:
                continue
            if self.refuses:
                table.set_status(row.id, change.revision, "error", self.refuses)
                continue
            self.sets[row.id] = row
            self.current[row.identity] = row.id
            table.set_status(row.id, change.revision, "done")
            with self.db.write() as txn:
                txn.upsert(
                    INSTALLED_SETS, InstalledSet(row.identity, row.id, row.ingress_enforced, row.egress_enforced)
                )

    def let_go(self) -> None:
        rows = {row.id for row in self.db.table(POLICY_SETS).all()}
        self.sets = {n: row for n, row in self.sets.items() if n in rows or self.current.get(row.identity) == n}
        self.former.clear()


class Disk:
    """A memory whose disk can be full."""

    def __init__(self) -> None:
        self.full = False
        self.kept: dict[int, str] = {}

    def load(self) -> None:
        return None

    def save(self, bits: Mapping[Selector, int]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.kept = {bit: str(selector) for selector, bit in bits.items()}


class World:
    """A database, the controller, and what the verdicts should be."""

    def __init__(self, *, memory: Memory | None = None, former: set[int] = frozenset(), size: int = SIZE) -> None:
        self.db = Database([POLICIES, IDENTITIES, ENDPOINTS, INSTALLED_SETS, SELECTOR_BITS, VECTORS, POLICY_SETS])
        self.kernel = Kernel(self.db, former)
        ready = asyncio.Event()
        ready.set()
        self.controller = Controller(self.db, self.kernel, ready=ready, memory=memory, size=size, last_set=len(former))
        self.controller.begin()

    def policy(self, name: str, *rules: Rule) -> None:
        with self.db.write() as txn:
            txn.upsert(POLICIES, Policy("CiliumNetworkPolicy", "default", name, rules, "file.yaml"))

    def no_policy(self, name: str) -> None:
        with self.db.write() as txn:
            txn.delete(POLICIES, ("CiliumNetworkPolicy", "default", name))

    def identity(self, number: int, *labels: str) -> None:
        with self.db.write() as txn:
            txn.upsert(IDENTITIES, Identity(number, tuple(sorted(labels))))

    def endpoint(self, number: int, identity: int) -> None:
        row = Endpoint(number, 1, "default", f"p{number}", "c", "eth0", f"lxc{number}", 1, 2, "", "", identity=identity)
        with self.db.write() as txn:
            txn.upsert(ENDPOINTS, row)

    def no_endpoint(self, number: int) -> None:
        with self.db.write() as txn:
            txn.delete(ENDPOINTS, number)

    async def settle(self) -> None:
        for _ in range(6):
            await self.controller.round()
            self.kernel.take_sets()
            self.kernel.let_go()

    def status(self, name: str) -> tuple[str, str]:
        status = self.db.table(POLICIES).status(("CiliumNetworkPolicy", "default", name))
        return status.state, status.error

    def verdict(self, subject: int, peer: int, direction: Direction, port: int) -> str:
        row = self.kernel.sets[self.kernel.current[subject]]
        return lookup(row, self.kernel.vectors, peer, direction, 6, port).verdict

    def should(self, subject: int, peer: int, direction: Direction, port: int) -> str:
        rules = [
            Named(rule, Bound(row.kind, row.namespace, row.name, rule.path))
            for row in self.db.table(POLICIES).all()
            for rule in row.rules
        ]
        labels = {row.id: tuple(parse(t) for t in row.labels) for row in self.db.table(IDENTITIES).all()}
        return judge(rules, direction, labels[subject], labels[peer], 6, port).verdict


def app(name: str) -> Selector:
    return all_of(equals("k8s", "app", name))


def allow(subject: str, peer: str, port: int = 80, verdict: Verdict = Verdict.ALLOW) -> Rule:
    ports = (PortRange(6, port, port),)
    return Rule("spec.ingress[0]", app(subject), Direction.INGRESS, verdict, (app(peer),), ports)


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
    world.policy("big", Rule("spec.egress[0]", app("web"), Direction.EGRESS, Verdict.ALLOW, peers[:5], None))
    await world.settle()
    assert world.status("big") == world.status("fits") == ("done", "")


async def test_what_the_kernel_refuses_is_said_on_the_policy_and_changes_nothing():
    world = World()
    world.identity(300, "k8s:app=web")
    world.endpoint(1, 300)
    world.policy("p", allow("web", "web"))
    await world.settle()
    world.kernel.refuses = "map cp_class_v1 is full"
    world.policy("p", allow("web", "web", port=81))
    await world.settle()
    assert world.status("p") == ("error", "map cp_class_v1 is full")
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
            st.lists(st.builds(allow, names, names, st.sampled_from([80, 81]), st.sampled_from(Verdict)), max_size=3),
        ),
        st.tuples(st.just("no policy"), st.sampled_from("pq")),
        st.tuples(st.just("identity"), st.integers(300, 302), names),
        st.tuples(st.just("endpoint"), st.integers(1, 3), st.integers(300, 302)),
        st.tuples(st.just("no endpoint"), st.integers(1, 3)),
        st.sampled_from([("round",), ("vectors",), ("sets",), ("let go",), ("disk", True), ("disk", False)]),
    ),
    max_size=30,
)


@settings(max_examples=scaled(100), deadline=None)
@given(steps)
async def test_whatever_happens_in_whatever_order(found):
    """At every moment the kernel's sets and vectors agree about bits; in the end the verdicts are the rules'."""
    disk = Disk()
    world = World(memory=disk)
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
            case "endpoint", number, identity:
                world.endpoint(number, identity)
            case "no endpoint", number:
                world.no_endpoint(number)
            case ("round",):
                await world.controller.round()
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
    disk.full = False
    await world.settle()
    await world.settle()
    for endpoint in world.db.table(ENDPOINTS).all():
        for peer in (300, 301, 302):
            for direction in Direction:
                for port in (80, 81, 82):
                    asked = (endpoint.identity, peer, direction, port)
                    assert world.verdict(*asked) == world.should(*asked)
    assert all(world.status(row.name)[0] == "done" for row in world.db.table(POLICIES).all())
    assert len(world.db.table(POLICY_SETS)) == len({row.identity for row in world.db.table(ENDPOINTS).all()})


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
