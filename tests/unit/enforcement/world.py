# SPDX-License-Identifier: Apache-2.0
"""The controller's surroundings: tables, and a kernel that writes rows one table at a time, late, and keeps sets."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping

import msgspec

from ciliumpy.datapath.desired import DesiredEndpoints
from ciliumpy.enforcement.controller import Controller
from ciliumpy.enforcement.memory import Memory
from ciliumpy.kit.clock import SystemClock
from ciliumpy.model.cidr import prefix_labels
from ciliumpy.model.labels import parse
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import PortRange
from ciliumpy.model.rule import NamedPort as Calling
from ciliumpy.model.rule import Rule
from ciliumpy.model.selectors import Operator, Requirement, Selector, all_of, equals, exists
from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.policy.compile import DEFAULTS
from ciliumpy.policy.compiled import Bound
from ciliumpy.policy.oracle import judge
from ciliumpy.policy.prefixes import Longest
from ciliumpy.policy.prepared import Named
from ciliumpy.policy.resolve import port_label
from ciliumpy.state.database import Database
from ciliumpy.tables.datapath import INSTALLED_SETS, INSTALLED_WIDTH, KERNEL_ENDPOINTS, InstalledSet, InstalledWidth
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import CALLED_PODS, POLICY_SETS, SELECTOR_BITS, VECTORS, WANTED_WIDTH, PolicySet
from ciliumpy.tables.identities import CIDR_PREFIXES, IDENTITIES, INSTALLED_PREFIXES, Identity, InstalledPrefix
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.source import (
    CIDR_GROUPS,
    ENDPOINT_OBJECTS,
    ENDPOINT_SLICES,
    PODS,
    POLICIES,
    SERVICES,
    NamedPort,
    Pod,
    Policy,
)
from tests.unit.policy.lookup import lookup

SIZE = 64


class Kernel:
    """Vectors and sets as maps hold them. Sets go in after vectors, and out when `let_go` says so."""

    def __init__(self, db: Database, former: set[int] = frozenset()) -> None:
        self.db = db
        self.vectors: dict[int, bytes] = {}
        self.sets: dict[int, PolicySet] = {}
        self._slots = DesiredEndpoints(db)
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

    @property
    def slots(self) -> dict[int, int]:
        """Which set an endpoint points at."""
        return {row.slot: row.policy_set for row in self.db.table(KERNEL_ENDPOINTS).all()}

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
            if change.deleted:
                key = (row.identity, row.named_ports)
                with self.db.write() as txn:
                    if (announced := txn.get(INSTALLED_SETS, key)) and announced.id == row.id:
                        txn.delete(INSTALLED_SETS, key)
                continue
            if not row.current:
                continue
            if self.refuses:
                table.set_status(row.id, change.revision, "error", self.refuses)
                continue
            self.sets[row.id] = row
            table.set_status(row.id, change.revision, "done")
            with self.db.write() as txn:
                sides = row.ingress_enforced, row.egress_enforced
                txn.upsert(INSTALLED_SETS, InstalledSet(row.identity, row.id, *sides, row.named_ports))
        self._slots.step()

    def let_go(self) -> None:
        rows = {row.id for row in self.db.table(POLICY_SETS).all()} | set(self.slots.values())
        self.sets = {n: row for n, row in self.sets.items() if n in rows}
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


class LateClock(SystemClock):
    """The machine's, so many seconds later."""

    later_s = 0.0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + int(self.later_s * 1e9)


class World:
    """A database, the controller, and what the verdicts should be."""

    def __init__(
        self,
        *,
        memory: Memory | None = None,
        former: set[int] = frozenset(),
        size: int = SIZE,
        most: int = 0,
        options: PolicyOptions = DEFAULTS,
    ) -> None:
        sources = [POLICIES, CIDR_GROUPS, PODS, ENDPOINT_OBJECTS, IDENTITIES, ENDPOINTS]
        sources += [CIDR_PREFIXES, INSTALLED_PREFIXES, IPCACHE, SERVICES, ENDPOINT_SLICES]
        derived = [
            SELECTOR_BITS,
            WANTED_WIDTH,
            INSTALLED_WIDTH,
            VECTORS,
            POLICY_SETS,
            INSTALLED_SETS,
            CALLED_PODS,
            KERNEL_ENDPOINTS,
        ]
        self.clock = LateClock()
        self.db = Database([*sources, *derived], clock=self.clock)
        self.kernel = Kernel(self.db, former)
        ready = asyncio.Event()
        ready.set()
        self.controller = Controller(
            self.db,
            self.kernel,
            ready=ready,
            options=options,
            memory=memory,
            size=size,
            most=most,
            last_set=len(former),
        )
        self.controller.begin()
        self.prefixes: dict[str, int] = {}
        self.full: set[str] = set()  # prefixes that the kernel has no room for

    def policy(self, name: str, *rules: Rule) -> None:
        with self.db.write() as txn:
            txn.upsert(POLICIES, Policy("CiliumNetworkPolicy", "default", name, rules, "file.yaml"))

    def no_policy(self, name: str) -> None:
        with self.db.write() as txn:
            txn.delete(POLICIES, ("CiliumNetworkPolicy", "default", name))

    def identity(self, number: int, *labels: str) -> None:
        with self.db.write() as txn:
            txn.upsert(IDENTITIES, Identity(number, tuple(sorted(labels))))

    def endpoint(self, number: int, identity: int, **ports: int) -> None:
        """An endpoint, and its pod with TCP ports of these names."""
        named = tuple(NamedPort(name, "TCP", port) for name, port in ports.items())
        ends = Endpoint(
            number, 1, "default", f"p{number}", "c", "eth0", f"lxc{number}", 1, 2, "", "", identity=identity
        )
        with self.db.write() as txn:
            txn.upsert(PODS, Pod("default", f"p{number}", ports=named))
            txn.upsert(ENDPOINTS, msgspec.structs.replace(ends, identity=identity, named_ports=named))

    def no_endpoint(self, number: int) -> None:
        with self.db.write() as txn:
            txn.delete(PODS, ("default", f"p{number}"))
            txn.delete(ENDPOINTS, number)

    def install(self, bits: int, error: str = "") -> None:
        """The datapath has so many bits now, or says why not."""
        with self.db.write() as txn:
            txn.upsert(INSTALLED_WIDTH, InstalledWidth(bits, error))

    def wanted(self) -> int:
        """How many bits the datapath is asked for."""
        return max((row.bits for row in self.db.table(WANTED_WIDTH).all()), default=0)

    def place_prefixes(self) -> None:
        """Give each prefix that is asked for its identity, put it into the kernel, and take others out."""
        asked = {row.prefix for row in self.db.table(CIDR_PREFIXES).all()} - self.full
        rows = self.db.table(IPCACHE)
        for prefix in self.full:
            with self.db.write() as txn:
                txn.upsert(IPCACHE, IPCacheEntry(prefix, 9, source="cidr"))
            rows.set_status(prefix, rows.revision_of(prefix), "error", "map cp_ipcidr_v1 is full")
        with self.db.write() as txn:
            for prefix in sorted(asked - self.prefixes.keys()):
                self.prefixes[prefix] = 0x1000001 + len(self.prefixes)
                txn.upsert(IDENTITIES, Identity(self.prefixes[prefix], prefix_labels(prefix)))
            for prefix in asked:
                txn.upsert(INSTALLED_PREFIXES, InstalledPrefix(prefix, self.prefixes[prefix]))
            for row in txn.all(INSTALLED_PREFIXES):
                if row.prefix not in asked:
                    txn.delete(INSTALLED_PREFIXES, row.prefix)

    def identity_of(self, address: str) -> int:
        """Whom the kernel takes an outside address for."""
        prefix = Longest(row.prefix for row in self.db.table(INSTALLED_PREFIXES).all()).of(address)
        return self.prefixes[prefix] if prefix else 9

    async def settle(self) -> None:
        for _ in range(8):
            await self.controller.round()
            self.place_prefixes()
            self.kernel.take_sets()
            self.kernel.let_go()

    def status(self, name: str) -> tuple[str, str]:
        status = self.db.table(POLICIES).status(("CiliumNetworkPolicy", "default", name))
        return status.state, status.error

    def slot(self, identity: int) -> int:
        """An endpoint of that identity."""
        return next(row.id for row in self.db.table(ENDPOINTS).all() if row.identity == identity)

    def verdict(self, endpoint: int, peer: int, direction: Direction, port: int) -> str:
        """What the kernel says at an endpoint; of an identity's number, at one that has it."""
        endpoint = endpoint if endpoint < 256 else self.slot(endpoint)
        row = self.kernel.sets[self.kernel.slots[endpoint]]
        return lookup(row, self.kernel.vectors, peer, direction, 6, port).verdict

    def should(self, endpoint: int, peer: int, direction: Direction, port: int) -> str:
        """What the rules say. A peer is an identity, with the ports of all pods that have it."""
        rules = [
            Named(rule, Bound(row.kind, row.namespace, row.name, rule.path))
            for row in self.db.table(POLICIES).all()
            for rule in row.rules
        ]
        labels = {row.id: row.labels for row in self.db.table(IDENTITIES).all()}
        ends = self.db.table(ENDPOINTS)
        own = ends.get(endpoint if endpoint < 256 else self.slot(endpoint))
        named = [port for row in ends.all() if row.identity == peer for port in row.named_ports]
        subject, other = (
            tuple(parse(t) for t in (*found, *(port_label(6, p.name, p.port) for p in ports)))
            for found, ports in ((labels[own.identity], own.named_ports), (labels[peer], named))
        )
        return judge(rules, direction, subject, other, 6, port).verdict


def app(name: str) -> Selector:
    return all_of(equals("k8s", "app", name))


def allow(subject: str, peer: str, port: int = 80, verdict: Verdict = Verdict.ALLOW) -> Rule:
    ports = (PortRange(6, port, port),)
    return Rule("spec.ingress[0]", app(subject), Direction.INGRESS, verdict, (app(peer),), ports)


def calling(subject: str, peer: str, direction: Direction = Direction.INGRESS) -> Rule:
    """A rule for the port that is called http."""
    return Rule("spec.named", app(subject), direction, Verdict.ALLOW, (app(peer),), (Calling(6, "http"),))


def outside(cidr: str, *holes: str, verdict: Verdict = Verdict.ALLOW) -> Rule:
    """Lets pods of app web reach a prefix but for parts of it."""
    barred = [Requirement("cidr", hole, Operator.DOES_NOT_EXIST) for hole in holes]
    peers = (all_of(exists("cidr", cidr), *barred),)
    return Rule("spec.egress[0]", app("web"), Direction.EGRESS, verdict, peers, None)
