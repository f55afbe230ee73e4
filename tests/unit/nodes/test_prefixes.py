# SPDX-License-Identifier: Apache-2.0
"""Prefixes in the kernel: whatever changes, every address is judged as before or as after, never otherwise."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ciliumpy.identity.local import LocalIdentities
from ciliumpy.kit.clock import SystemClock
from ciliumpy.model.cidr import Groups, prefix_labels
from ciliumpy.nodes import prefixes as prefixes_module
from ciliumpy.nodes.derive import Families
from ciliumpy.nodes.ipcache import IPCacheController
from ciliumpy.state.database import Database
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.state.reconciler import Reconciler
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import VECTORS, SelectorVector
from ciliumpy.tables.identities import (
    CIDR_PREFIXES,
    IDENTITIES,
    INSTALLED_PREFIXES,
    PREFIX_IDENTITIES,
    CidrPrefix,
    Identity,
)
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import CIDR_GROUPS, NODES, CidrGroup, Node
from tests.soak import scaled

WORLD = 2
Address = ipaddress.IPv4Address
ADDRESSES = [Address((n << 28) + 9) for n in range(16)]
Judged = tuple[tuple[str, ...], str]  # labels and tunnel


class Kernel:
    """A trie that is written row by row, in any order within a batch; `seen` is called after each write."""

    def __init__(self, seed: int = 0) -> None:
        self.rows: dict[str, IPCacheEntry] = {}
        self.vectors: set[int] = set()
        self.seen: Callable[[], None] = lambda: None
        self.refuse: set[str] = set()
        self.written: list[str] = []
        self._random = random.Random(seed)

    async def update(self, rows: Sequence[IPCacheEntry]) -> Mapping[Hashable, str]:
        for row in self._random.sample(rows, len(rows)):
            assert row.source != "cidr" or row.identity in self.vectors, f"{row.prefix} has no vector"
            if row.prefix not in self.refuse:
                self.rows[row.prefix] = row
                self.written.append(row.prefix)
                self.seen()
            await asyncio.sleep(0)
        return dict.fromkeys((row.prefix for row in rows if row.prefix in self.refuse), "it is full")

    async def delete(self, rows: Sequence[IPCacheEntry]) -> Mapping[Hashable, str]:
        for row in self._random.sample(rows, len(rows)):
            self.rows.pop(row.prefix, None)
            self.written.append(f"-{row.prefix}")
            self.seen()
            await asyncio.sleep(0)
        return {}

    async def prune(self, rows: Sequence[IPCacheEntry]) -> int:
        return 0


class Vectors:
    def __init__(self, kernel: Kernel) -> None:
        self._known = kernel.vectors

    async def update(self, rows: Sequence[SelectorVector]) -> Mapping[Hashable, str]:
        await asyncio.sleep(0)
        self._known.update(row.identity for row in rows)
        return {}

    async def delete(self, rows: Sequence[SelectorVector]) -> Mapping[Hashable, str]:
        self._known.difference_update(row.identity for row in rows)
        return {}

    async def prune(self, rows: Sequence[SelectorVector]) -> int:
        return 0


class World:
    """A node with everything between a policy's prefixes and the kernel's rows."""

    def __init__(self, seed: int = 0, families: Families | None = None) -> None:
        self.db = Database(ALL_TABLES)
        self.kernel = Kernel(seed)
        families = families or Families(ipv6=False)
        self.local = LocalIdentities(self.db, ipv4=families.ipv4, ipv6=families.ipv6)
        self.ipcache = IPCacheController(self.db, "own", families)
        self._health = HealthRegistry()
        self.jobs = JobGroup("", self._health, SystemClock())
        self.groups = Groups()
        self._pods: dict[str, str] = {}
        with self.db.write() as txn:
            for number in (1, WORLD, 6, 9, 10, 300):
                txn.upsert(IDENTITIES, Identity(number, (f"reserved:{number}",), reserved=True))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        ready.set()
        clock = SystemClock()
        self.jobs.start_reporting("v", Reconciler(self.db, VECTORS, Vectors(self.kernel), clock=clock).run)
        self.jobs.start_reporting("i", Reconciler(self.db, IPCACHE, self.kernel, clock=clock).run)
        self.jobs.start("vectors", self._give_vectors)
        await self.local.end_start(ready)
        self.jobs.start_reporting("local", lambda job: self.local.run(job, ready))
        self.jobs.start_reporting("prefixes", lambda job: self.ipcache.prefixes.run(job, ready))
        self.jobs.start("ipcache", lambda: self.ipcache.run(ready))
        try:
            await self.settled()
            yield
            assert [job for job in self._health.all() if job.restarts] == [], "a job has failed"
        finally:
            await self.jobs.stop()

    async def _give_vectors(self) -> None:
        identities = self.db.table(IDENTITIES).observe("test")
        while True:
            with self.db.write() as txn:
                for change in identities.take():
                    if change.deleted:
                        txn.delete(VECTORS, change.row.id)
                    else:
                        txn.upsert(VECTORS, SelectorVector(change.row.id, b""))
            await identities.wait()

    async def settled(self) -> None:
        async with asyncio.timeout(20):
            while not self._is_settled():  # noqa: ASYNC110 - many things together
                await asyncio.sleep(0.001)

    def _is_settled(self) -> bool:
        table = self.db.table(IPCACHE)
        return (
            not any(o.pending for t in self.db.tables.values() for o in t._observers)
            and not table.leaving
            and {row.prefix for row in table.all()} == set(self.kernel.rows)
            and all(table.status(row.prefix).state == "done" for row in table.all())
            and self.ipcache.prefixes.settled
        )

    def want(self, prefixes: set[str], groups: Mapping[str, Sequence[str]], pods: Mapping[str, str]) -> None:
        """Change everything at once. `pods`: node -> its pod CIDR."""
        with self.db.write() as txn:
            for row in txn.all(CIDR_PREFIXES):
                if row.prefix not in prefixes:
                    txn.delete(CIDR_PREFIXES, row.prefix)
            for prefix in prefixes:
                txn.upsert(CIDR_PREFIXES, CidrPrefix(prefix))
            for group in txn.all(CIDR_GROUPS):
                if group.name not in groups:
                    txn.delete(CIDR_GROUPS, group.name)
            for name, members in groups.items():
                txn.upsert(CIDR_GROUPS, CidrGroup(name, prefixes=tuple(members)))
            for node in txn.all(NODES):
                if node.name not in pods:
                    txn.delete(NODES, node.name)
            for name, cidr in pods.items():
                txn.upsert(NODES, Node(name, pod_cidrs=(cidr,)))

    def judged(self, address: Address) -> Judged:
        row = max((r for p, r in self.kernel.rows.items() if address in ipaddress.ip_network(p)), key=_length)
        identity = self.db.table(IDENTITIES).get(row.identity)
        assert identity is not None, f"the kernel has {row.prefix} with {row.identity}, which is nobody"
        return identity.labels, row.tunnel


def _length(row: IPCacheEntry) -> int:
    return ipaddress.ip_network(row.prefix).prefixlen


def by_hand(
    address: Address, prefixes: set[str], groups: Mapping[str, Sequence[str]], pods: Mapping[str, str]
) -> Judged:
    """What an address is, straight from the rules."""
    if any(address in ipaddress.ip_network(cidr) for cidr in pods.values()):
        return (f"reserved:{WORLD}",), ""
    holding = [p for p in prefixes if address in ipaddress.ip_network(p)]
    if not holding:
        return (f"reserved:{WORLD}",), ""
    known = Groups()
    for name, members in groups.items():
        known.set(name, {}, members)
    longest = max(holding, key=lambda p: ipaddress.ip_network(p).prefixlen)
    return prefix_labels(longest, known, ipv6=False), ""


toy = st.builds(
    lambda bits, length: str(ipaddress.ip_network((bits << 28, length), strict=False)),
    st.integers(0, 15),
    st.integers(0, 4),
)
states = st.one_of(
    st.tuples(
        st.sets(toy, max_size=8),
        st.dictionaries(st.sampled_from("gh"), st.lists(toy, min_size=1, max_size=3), max_size=2),
    ),
    st.dictionaries(st.sampled_from(["own", "away"]), toy.filter(lambda p: not p.endswith("/0")), max_size=2),
)


@settings(max_examples=scaled(60), deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(states, min_size=2, max_size=6), st.integers(0, 999))
def test_every_address_is_judged_as_before_or_as_after(history, seed) -> None:
    async def play() -> None:
        world = World(seed)
        async with world.running():
            named: set[str] = set()
            groups: Mapping[str, Sequence[str]] = {}
            pods: Mapping[str, str] = {}
            for state in history:
                # Nodes have nothing to do with policies: each change is one of its own.
                if isinstance(state, dict):
                    pods = state
                else:
                    prefixes, groups = state
                    named = prefixes | {p for members in groups.values() for p in members}
                before = {a: world.judged(a) for a in ADDRESSES}
                after = {a: by_hand(a, named, groups, pods) for a in ADDRESSES}

                def seen(before=before, after=after) -> None:
                    for address in ADDRESSES:
                        judged = world.judged(address)
                        assert judged in (before[address], after[address]), f"{address}: {world.kernel.written}"

                world.kernel.seen = seen
                world.want(named, groups, pods)
                await world.settled()
                assert {a: world.judged(a) for a in ADDRESSES} == after
                assert {row.prefix for row in world.db.table(INSTALLED_PREFIXES).all()} == named

    asyncio.run(play())


async def test_longer_prefixes_come_first_and_go_last() -> None:
    world = World()
    async with world.running():
        world.kernel.written.clear()
        world.want({"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0"}, {}, {})
        await world.settled()
        assert world.kernel.written == ["10.1.2.3/32", "10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]
        world.kernel.written.clear()
        world.want(set(), {}, {})
        await world.settled()
        assert world.kernel.written == ["0.0.0.0/0", "-10.0.0.0/8", "-10.1.0.0/16", "-10.1.2.3/32"]
        assert world.kernel.rows["0.0.0.0/0"].identity == WORLD


async def test_a_prefix_never_takes_the_address_of_a_pod_or_a_node() -> None:
    world = World()
    pod = Endpoint(1, 1, "shop", "api", "c", "eth0", "lxc", 9, 2, "", "", ipv4="10.9.9.9", identity=300)
    with world.db.write() as txn:
        txn.upsert(NODES, Node("away", internal_ips=("172.30.0.2",), router_ips=("10.244.1.1",)))
        txn.upsert(ENDPOINTS, pod)
    async with world.running():
        with world.db.write() as txn:
            for prefix in ("172.30.0.2/32", "172.30.0.0/24", "10.244.1.1/32", "10.9.9.9/32", "10.9.9.8/32"):
                txn.upsert(CIDR_PREFIXES, CidrPrefix(prefix))
        await world.settled()
        rows = {prefix: row.identity for prefix, row in world.kernel.rows.items()}
        assert (rows["172.30.0.2/32"], rows["10.244.1.1/32"], rows["10.9.9.9/32"]) == (6, 6, 300)
        assert rows["10.9.9.8/32"] >> 24 == rows["172.30.0.0/24"] >> 24 == 1
        with world.db.write() as txn:
            txn.delete(ENDPOINTS, 1)
        await world.settled()
        assert world.kernel.rows["10.9.9.9/32"].source == "cidr", "the pod is gone: it is outside now"


async def test_a_pod_cidr_keeps_its_way_whatever_is_named_in_it() -> None:
    world = World()
    node = Node("away", internal_ips=("172.30.0.2",), pod_cidrs=("10.244.1.0/24",))
    async with world.running():
        world.want({"10.0.0.0/8", "10.244.1.0/24", "10.244.1.0/28", "10.244.1.7/32"}, {}, {})
        await world.settled()
        assert "10.244.1.7/32" in world.kernel.rows
        with world.db.write() as txn:
            txn.upsert(NODES, node)
        await world.settled()
        assert {"10.244.1.7/32", "10.244.1.0/28"}.isdisjoint(world.kernel.rows)
        assert world.judged(Address("10.244.1.7")) == ((f"reserved:{WORLD}",), "172.30.0.2")
        assert len(world.db.table(INSTALLED_PREFIXES)) == 4, "sets may name them all: nobody is there"


async def test_a_family_that_is_off_needs_no_row() -> None:
    world = World()
    async with world.running():
        world.want({"fd00::/8", "10.0.0.0/8"}, {}, {})
        await world.settled()
        installed = {row.prefix: row.identity for row in world.db.table(INSTALLED_PREFIXES).all()}
        assert installed["fd00::/8"] == 0
        assert installed["10.0.0.0/8"] == world.kernel.rows["10.0.0.0/8"].identity
        assert "fd00::/8" not in world.db.table(PREFIX_IDENTITIES)
        assert "fd00::/8" not in world.kernel.rows


async def refused(world: World, prefix: str) -> None:
    """Wait until the kernel has refused a prefix, and a round since then has ended."""
    async with asyncio.timeout(10):
        while not (prefix in world.ipcache.prefixes._refused and "it is full" in world._health.get("prefixes").message):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_what_the_kernel_refuses_stops_only_what_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes_module, "RETRY", prefixes_module.Backoff(first_s=0.01, most_s=0.02))
    world = World()
    async with world.running():
        world.want({"10.2.0.0/16"}, {}, {})
        await world.settled()
        world.kernel.refuse = {"10.1.0.0/16"}
        world.want({"10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"}, {}, {})
        await refused(world, "10.1.0.0/16")
        assert {row.prefix for row in world.db.table(INSTALLED_PREFIXES).all()} == {"10.0.0.0/8", "11.0.0.0/8"}
        assert "10.2.0.0/16" not in world.kernel.rows, "what goes makes room"
        assert world.ipcache.prefixes.settled, "a start does not wait for it"
        world.kernel.refuse = set()
        await world.settled()
        assert len(world.db.table(INSTALLED_PREFIXES)) == 3


async def test_a_group_keeps_what_a_refused_prefix_of_it_shall_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes_module, "RETRY", prefixes_module.Backoff(first_s=0.01, most_s=0.02))
    world = World()
    async with world.running():
        for former in ({"10.0.0.0/8"}, {"10.0.0.0/8", "10.0.0.0/9"}):
            world.want(former, {"g": sorted(former)}, {})
            await world.settled()
            of_group = world.judged(Address("10.1.0.1"))
            assert any("groupname/g" in label for label in of_group[0])
            world.kernel.refuse = {"10.1.0.0/16"}
            world.want({"10.0.0.0/8", "10.1.0.0/16"}, {"g": ["10.1.0.0/16"]}, {})
            await refused(world, "10.1.0.0/16")
            assert world.judged(Address("10.1.0.1")) == of_group
            world.kernel.refuse = set()
            await world.settled()
            assert any("groupname/g" in label for label in world.judged(Address("10.1.0.1"))[0])
            assert not any("groupname/g" in label for label in world.judged(Address("10.2.0.1"))[0])


async def test_a_prefix_that_is_named_again_before_it_goes_stays() -> None:
    world = World()
    async with world.running():
        world.want({"10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"}, {}, {})
        await world.settled()
        removed = world.ipcache.prefixes._place

        def place(claims) -> None:
            if "10.0.0.0/8" in claims or "11.0.0.0/8" in claims:
                with world.db.write() as txn:
                    txn.upsert(CIDR_PREFIXES, CidrPrefix("10.1.0.0/16"))
            removed(claims)

        world.ipcache.prefixes._place = place
        world.want(set(), {}, {})
        world.kernel.written.clear()
        await world.settled()
        assert sorted(world.kernel.written) == ["-10.0.0.0/8", "-11.0.0.0/8"]
        assert [row.prefix for row in world.db.table(INSTALLED_PREFIXES).all()] == ["10.1.0.0/16"]
