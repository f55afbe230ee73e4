# SPDX-License-Identifier: Apache-2.0
"""Keeps SELECTOR_BITS, VECTORS and POLICY_SETS equal to policies, identities and local endpoints.

One round: take what changed, compile the local identities that it concerns, give bits to new selectors, write vectors,
then sets. The datapath writes a set only when every vector that was written before it is in the kernel, and says in
INSTALLED_SETS when it is done; the former set's row is deleted then, and its selectors' bits are freed when the kernel
has let go of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from ciliumpy.enforcement.bits import FORMER, Bits
from ciliumpy.enforcement.called import Called
from ciliumpy.enforcement.encode import Classes, DoesNotFitError, Numbers, TooNarrowError, encode
from ciliumpy.enforcement.feeds import Feeds
from ciliumpy.enforcement.local import Local, Variant
from ciliumpy.enforcement.memory import CountMemory, Memory, NoMemory
from ciliumpy.enforcement.places import Places
from ciliumpy.enforcement.pod_ports import numbers_of
from ciliumpy.enforcement.prefixes import Prefixes
from ciliumpy.enforcement.room import WAITS, Room
from ciliumpy.enforcement.slots import turning
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.policy.compile import DEFAULTS
from ciliumpy.policy.repository import PolicyKey, Repository
from ciliumpy.policy.resolve import NO_PORTS
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import INSTALLED_SETS, InstalledSet
from ciliumpy.tables.enforcement import POLICY_SETS, SELECTOR_BITS, VECTORS, SelectorBit
from ciliumpy.tables.source import POLICIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ciliumpy.enforcement.counting import KernelCounts
    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.model.selectors import Selector
    from ciliumpy.policy.compiled import CompiledPolicy
    from ciliumpy.state.database import Database, WriteTransaction
    from ciliumpy.state.jobs import Job

VECTOR_BITS = 1024
SLICE_NS = 5_000_000  # the loop is never held longer
SWEEP_S = 1.0
TURN_S = 0.005
RELABELLING_S = 0.2

_log = logging.getLogger(__name__)


class KernelSets(Protocol):
    """What the datapath knows of the sets in the kernel."""

    def holds(self, set_id: int) -> bool:
        """Whether the kernel has the set, or has not yet been rid of it."""
        ...

    def holds_former(self) -> bool:
        """Whether the kernel has sets of the agent before this one."""
        ...

    def drop_former(self) -> int:
        """Remove those sets at once; how many. What they enforced is closed until its new set is written."""
        ...


class Counts(msgspec.Struct, frozen=True):
    """For `status`."""

    revision: int
    policies: int
    sets: int
    classes: int
    bits: int
    bits_total: int  # for which there is room now
    bits_most: int  # for which room can be made
    pending: int  # what is not yet in force of the tables as they are: 0 when the kernel has it all
    realised: int  # the last revision of which all is in force


class Controller:
    """A job. Starts writing when `ready` is set: before the policies are read, every pod would look unrestricted."""

    def __init__(
        self,
        db: Database,
        kernel: KernelSets,
        *,
        ready: asyncio.Event,
        options: PolicyOptions = DEFAULTS,
        memory: Memory | None = None,
        last_set: int = 0,
        last_class: int = 0,
        size: int = VECTOR_BITS,
        most: int = 0,
        counts: KernelCounts | None = None,
        count_memory: CountMemory | None = None,
    ) -> None:
        self._db = db
        self._kernel = kernel
        self._ready = ready
        self._room = Room(db, size, most)
        self._memory = memory or NoMemory()
        loaded = self._memory.load()
        self._amnesia = loaded is None
        remembered = loaded or {}
        self._bits = Bits(size, remembered, most)
        self._vectors = Vectors(size, remembered)
        self._numbers = Numbers(last_set, last_class)
        self._counting = Places(counts, count_memory)
        self._repository = Repository(options)
        self._local = Local()
        self._prefixes = Prefixes()
        self._prefixes.need_bits(remembered)
        self._feeds = Feeds(db, self._repository, self._vectors, self._local, self._prefixes, self._breathe)
        self._installed = db.table(INSTALLED_SETS).observe("enforcement")
        self._dirty: set[int] = set()
        self._sets: dict[int, list[Variant]] = {}  # identity -> the sets it shall have
        self._compiled: dict[Variant, CompiledPolicy] = {}  # what its current set was encoded from
        self._classes: dict[Variant, Classes] = {}  # of its current set
        self._refused: dict[Variant, str] = {}  # why its policy is not in force; WAITS: it may soon be
        self._blamed: dict[Variant, set[PolicyKey]] = {}  # policies without which it would be
        self._pending: dict[Variant, int] = {}  # set that is not yet in force
        self._turning = False  # such a set is complete, and endpoints have yet to turn to it
        self._called = Called(db)
        self._leaving: set[int] = set()  # identities with a set in force that no endpoint shall have any more
        self._unreported: set[PolicyKey] = set()  # policies whose status is not settled
        db.table(POLICIES).reconciled = True
        self._retired: set[int] = {FORMER} if remembered else set()  # deleted rows that the kernel may still have
        self._clearing: dict[int, None] = {}  # vectors whose write frees bits
        self._cleared: list[Selector] = []
        self._slice_began_ns = 0
        self.named = asyncio.Event()
        """Set when CIDR_PREFIXES has what the policies name: before, after a start, that it lacks one says nothing."""
        self._realised = 0
        self._compiling = False  # what was taken from the tables is not all in `_pending` yet

    async def run(self, job: Job) -> None:
        await self._ready.wait()
        self.begin()
        while True:
            await self.round()
            if said := next(filter(None, self._refused.values()), ""):
                job.degraded(said)
            else:
                job.ok(f"{len(self._compiled)} sets, {len(self._bits)} of {self._bits.size} selector bits")
            waiting = bool(self._retired or self._cleared or self._unreported or self._dirty or self._feeds.waiting)
            waiting = waiting or self._counting.unsaved
            # A status wakes nobody: look again a little later.
            slow_s = RELABELLING_S if self._feeds.relabelling else SWEEP_S if waiting else None
            timeout_s = TURN_S if self._turning or self._called else slow_s
            await wait_any(*self._feeds.observers, self._room.feed, self._installed, timeout_s=timeout_s)

    def begin(self) -> None:
        """Show the bits that are remembered; where nobody knows what former sets' mean, they must not meet ours."""
        if self._amnesia and self._kernel.holds_former():
            dropped = self._kernel.drop_former()
            _log.warning("the selector bits of the former agent are lost: %d policy sets were removed", dropped)
        self._amnesia = False
        self._remember()
        self._write_bits(self._bits.assigned)

    async def round(self) -> None:
        """Carry over everything that has changed since the last one."""
        self._slice_began_ns = self._db.clock.monotonic_ns()
        self._compiling = True
        self._follow_width()
        changed = await self._feeds.follow()
        self.named.set()
        self._dirty |= changed.subjects
        self._unreported = (self._unreported | changed.policies) & self._feeds.known.keys()
        await self._write_vectors(changed.vectors)
        await self._counting.renew()
        await self._compile()
        await self._counting.remember(self._db.clock.monotonic_ns())
        self._compiling = False
        self._called.move(changed.called, [n for v, n in self._pending.items() if v.identity in changed.callers])
        await self._settle()
        self._called.settle(set(self._pending.values()))
        if not (self._pending or self._dirty or self._refused or self._feeds.held):
            self._realised = self._repository.revision
        self._retire()
        await self._free_bits()

    def subjects_of(self, kind: str, namespace: str, name: str) -> set[int]:
        """Return the local identities that a policy selects, as far as it was taken over."""
        return self._repository.selected_by(PolicyKey(kind, namespace, name))

    def refusals_of(self, identity: int) -> list[str]:
        """Return why policy of a local identity is not in force and will not be until something changes."""
        return sorted(why for variant, why in self._refused.items() if variant.identity == identity)

    @property
    def counts(self) -> Counts:
        sets = self._db.table(POLICY_SETS).all()
        return Counts(
            revision=self._repository.revision,
            policies=len(self._repository),
            sets=len(sets),
            classes=sum(len(row.classes) for row in sets),
            bits=len(self._bits),
            bits_total=self._bits.size,
            bits_most=self._bits.most,
            realised=self._realised,
            pending=len(self._pending)
            + len(self._dirty)
            + list(self._refused.values()).count(WAITS)
            + self._compiling
            + self._feeds.held
            + sum(feed.pending for feed in (*self._feeds.observers, self._room.feed)),
        )

    def _follow_width(self) -> None:
        if self._room.changed():
            self._bits.grow(self._room.bits)
            self._vectors.grow(self._room.bits)
            self._classes.clear()  # their masks are narrower
            self._dirty.update(variant.identity for variant in self._refused)

    # What goes out.

    async def _compile(self) -> None:
        compiled: dict[Variant, CompiledPolicy] = {}
        # One that has no set of ours yet gets none without a policy that waits: it would open what the former agent's
        # set, or the lack of one, keeps closed.
        held = {i for i in self._dirty if i in self._local and i not in self._sets and self._feeds.holds_back(i)}
        identities, self._dirty = sorted(self._dirty - held), held
        for identity in identities:
            if identity not in self._local:
                self._feeds.remove_subject(identity)
            self._sets[identity] = self._local.variants(identity, by_ports=self._repository.asks_own_ports(identity))
            for variant in self._sets[identity]:
                ports = NO_PORTS if variant.named_ports is None else numbers_of(variant.named_ports)
                result = self._repository.compile(identity, ports)
                if self._compiled.get(variant) != result or variant in self._refused:
                    compiled[variant] = result
                await self._breathe()
        fitting: dict[Variant, CompiledPolicy] = {}
        new: list[Selector] = []
        for variant, result in compiled.items():
            try:
                new += self._bits.take(result.selectors())
                fitting[variant] = result
            except TooNarrowError as error:
                self._refuse(variant, self._room.ask(str(error)))
            except DoesNotFitError as error:
                self._refuse(variant, str(error))
            await self._breathe()
        # On disk first: an agent that starts after a crash must know what a bit in the kernel means.
        if new and (fault := self._remember()):
            self._bits.give_back(new, self._cleared)
            for variant in [v for v, result in fitting.items() if not set(new).isdisjoint(result.selectors())]:
                del fitting[variant]
                self._refuse(variant, fault)
                self._dirty.add(variant.identity)
        elif new:
            self._write_bits(new)
            self._prefixes.need_bits(new)
            self._feeds.write_prefixes()
            changed: set[int] = set()
            for selector in new:
                changed |= self._vectors.give({selector: self._bits[selector]})
                await self._breathe()
            await self._write_vectors(changed)
        for variant, result in fitting.items():
            self._write_set(variant, result)
            await self._breathe()
        self._leave(identities)

    def _leave(self, identities: Iterable[int]) -> None:
        """Sets that no endpoint shall have any more are no longer current, unless the ones to follow are refused."""
        with self._db.write() as txn:
            for identity in identities:
                wanted = self._sets[identity]
                if not wanted:
                    self._forget(txn, identity)
                if any(variant in self._refused for variant in wanted):
                    continue
                for row in txn.by(POLICY_SETS, "identity", identity):
                    variant = Variant(identity, row.named_ports)
                    if variant not in wanted:
                        self._drop(variant)
                        self._leaving.add(identity)
                        if row.current:
                            txn.upsert(POLICY_SETS, msgspec.structs.replace(row, current=False))

    def _forget(self, txn: WriteTransaction, identity: int) -> None:
        """No endpoint here has that identity any more."""
        del self._sets[identity]
        for row in txn.by(POLICY_SETS, "identity", identity):
            txn.delete(POLICY_SETS, row.id)
            self._retired.add(row.id)
        for variant in [v for v in (*self._compiled, *self._refused) if v.identity == identity]:
            self._drop(variant)
        self._leaving.discard(identity)

    def _drop(self, variant: Variant) -> None:
        self._compiled.pop(variant, None)
        self._classes.pop(variant, None)
        self._refused.pop(variant, None)
        self._blamed.pop(variant, None)
        self._pending.pop(variant, None)

    def _remember(self) -> str:
        """Write the bits down; return why that cannot be."""
        try:
            self._memory.save(self._bits.assigned)
        except OSError as error:
            _log.warning("selector bits cannot be written down: %s", error)
            return f"selectors that are new here cannot be written down: {error.strerror}"
        return ""

    def _write_set(self, variant: Variant, result: CompiledPolicy) -> None:
        identity, ports = variant
        revision = self._repository.revision
        try:
            former = self._classes.get(variant, {})
            row, classes = encode(
                result, identity, self._bits.assigned, self._numbers, revision, self._bits.size, ports, former
            )
        except DoesNotFitError as error:
            self._refuse(variant, str(error))
            return
        self._refused.pop(variant, None)
        self._blamed.pop(variant, None)
        self._compiled[variant] = result
        self._pending[variant] = row.id
        row, self._classes[variant] = self._counting.assign(row, classes)
        self._bits.hold(row.id, result.selectors())
        with self._db.write() as txn:
            for other in txn.by(POLICY_SETS, "identity", identity):
                if other.named_ports == ports and other.current:
                    txn.upsert(POLICY_SETS, msgspec.structs.replace(other, current=False))
            txn.upsert(POLICY_SETS, row)

    def _refuse(self, variant: Variant, reason: str) -> None:
        """Keep the former set; said on the job and on the policies that made it too big.

        Without a reason it waits, and that is no error.
        """
        text = f"the policy of identity {variant.identity} does not fit, the former one stays in force: {reason}"
        text = text if reason else WAITS
        if text and self._refused.get(variant) != text:
            _log.error("%s", text)
        self._refused[variant] = text
        # The former set has what came before it; where no policy is new, all of them are too much together.
        sets = self._db.table(POLICY_SETS).by("identity", variant.identity)
        fitted = max((row.revision for row in sets if row.named_ports == variant.named_ports), default=0)
        every = self._repository.policies_of(variant.identity)
        self._blamed[variant] = self._repository.newer(variant.identity, fitted) or every
        self._unreported |= self._repository.policies_of(variant.identity)

    async def _write_vectors(self, identities: Iterable[int]) -> None:
        left = sorted(identities)
        while left:
            batch, left = left[:128], left[128:]
            with self._db.write() as txn:
                for identity in batch:
                    row = self._vectors.row(identity)
                    if row is None:
                        txn.delete(VECTORS, identity)
                    else:
                        txn.upsert(VECTORS, row)
            await self._breathe()

    def _write_bits(self, selectors: Iterable[Selector]) -> None:
        with self._db.write() as txn:
            for selector in selectors:
                txn.upsert(SELECTOR_BITS, SelectorBit(self._bits[selector], str(selector)))

    # What came of it.

    async def _settle(self) -> None:
        """See which sets are in force, and say so on the policies."""
        self._installed.take()
        self._turning = False
        installed = self._db.table(INSTALLED_SETS)
        for variant, number in list(self._pending.items()):
            row = installed.get(variant)
            if row is None or row.id != number:
                continue
            if turning(self._db, row):
                self._turning = True
            else:
                del self._pending[variant]
        for identity in list(self._leaving):
            if all(Variant(identity, row.named_ports) in self._sets[identity] for row in self._in_force(identity)):
                self._leaving.discard(identity)
        table = self._db.table(POLICIES)
        unsettled = {variant.identity for variant in (*self._pending, *self._refused)} | self._leaving | self._dirty
        for key in list(self._unreported):
            errors, waiting = self._state_of(key, unsettled)
            if errors or not waiting:  # of what was taken over: it may have changed since
                table.set_status(key, self._feeds.known[key], "error" if errors else "done", errors)
            if not errors and not waiting:
                self._unreported.discard(key)
            await self._breathe()

    def _in_force(self, identity: int) -> list[InstalledSet]:
        return self._db.table(INSTALLED_SETS).by("identity", identity)

    def _state_of(self, key: PolicyKey, unsettled: Collection[int]) -> tuple[str, bool]:
        """Why a policy is not in force somewhere, and whether it is still on its way; identities that may not be."""
        if self._feeds.is_held(key):
            return self._feeds.why_held(key), True
        sets = self._db.table(POLICY_SETS)
        subjects = self._repository.selected_by(key).intersection(unsettled) if unsettled else set()
        variants = [variant for identity in sorted(subjects) for variant in self._sets.get(identity, ())]
        for variant in variants:
            if (refused := self._refused.get(variant, WAITS)) and key in self._blamed[variant]:
                return refused, False
            number = self._pending.get(variant)
            if number is not None and sets.status(number).state == "error":
                return sets.status(number).error, True
        waiting = any(variant in self._pending or self._refused.get(variant) == WAITS for variant in variants)
        return "", waiting or not self._leaving.isdisjoint(subjects) or not subjects <= self._sets.keys()

    # What goes away.

    def _retire(self) -> None:
        """Delete the rows of superseded sets whose successors are in force."""
        installed = self._db.table(INSTALLED_SETS)
        gone = []
        for row in self._db.table(POLICY_SETS).all():
            if row.current:
                continue
            variant, wanted = Variant(row.identity, row.named_ports), self._sets.get(row.identity, [])
            if variant in wanted:
                in_force = installed.get(variant)
                if in_force is None or in_force.id != row.id:
                    gone.append(row.id)
            elif not any(one in self._pending or one in self._refused for one in wanted):
                gone.append(row.id)
        if gone:
            with self._db.write() as txn:
                for number in gone:
                    txn.delete(POLICY_SETS, number)
            self._retired.update(gone)

    async def _free_bits(self) -> None:
        """Let go of sets that the kernel has no more, clear bits that nobody names, free those that are cleared."""
        for number in list(self._retired):
            held = self._kernel.holds_former() if number == FORMER else self._kernel.holds(number)
            if not held:
                self._bits.let_go(number)
                self._counting.let_go(number)
                self._retired.discard(number)
        if not self._kernel.holds_former():
            self._counting.let_go(FORMER)
        if self._cleared:
            self._finish_clearing()
            return
        idle = self._bits.clear()
        if idle:
            self._cleared = idle
            changed = self._vectors.clear(idle)
            self._clearing = dict.fromkeys(changed)
            await self._write_vectors(changed)

    def _finish_clearing(self) -> None:
        table = self._db.table(VECTORS)
        for identity in list(self._clearing):
            if identity not in table or table.status(identity).state == "done":
                del self._clearing[identity]
        if self._clearing:
            return
        freed = self._bits.cleared(self._cleared)
        for selector in self._cleared:
            if selector not in self._bits.assigned:
                self._prefixes.need(selector, ())
        self._feeds.write_prefixes()
        self._cleared = []
        with self._db.write() as txn:
            for bit in freed:
                txn.delete(SELECTOR_BITS, bit)
        self._remember()
        self._dirty.update(variant.identity for variant in self._refused)  # there is room now

    async def _breathe(self) -> None:
        """Give the loop to others when this slice of work is used up."""
        if self._db.clock.monotonic_ns() - self._slice_began_ns > SLICE_NS:
            await asyncio.sleep(0)
            self._slice_began_ns = self._db.clock.monotonic_ns()
