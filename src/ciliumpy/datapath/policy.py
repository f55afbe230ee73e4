# SPDX-License-Identifier: Apache-2.0
"""Carries policy sets into the kernel, whole or not at all, and takes them out when nobody uses them any more."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ciliumpy.bpf.names import WIDTHS
from ciliumpy.datapath import encode
from ciliumpy.datapath.kernel import KernelMap, KernelMaps, copy_widened, dump, write
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.datapath import INSTALLED_SETS, InstalledSet
from ciliumpy.tables.enforcement import POLICY_SETS, VECTORS, PolicySet, PortRow

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.state.database import Database

GRACE_S = 1.0  # a packet that read the old set id has long finished
VECTOR_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


ClassKey = tuple[str, bytes]  # map, key


class Row(NamedTuple):
    """One row of one map."""

    map: KernelMap
    key: bytes
    value: bytes


class PolicyTarget:
    """`cp_class_v2` or `cp_class4k_v2` (for a while both, width.py), `cp_port_v1`, `cp_range_v1`; last, `cp_set_v2`.

    A set that is complete is announced in INSTALLED_SETS, which makes endpoints point at it. `in_use(set id)` tells
    whether a slot in the kernel still names a set. Classes may be shared by sets.
    """

    def __init__(
        self,
        db: Database,
        maps: KernelMaps,
        epochs: Epochs,
        in_use: Callable[[int], bool],
        has_vector: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._db = db
        self._epochs = epochs
        self._sets = maps["cp_set_v2"]
        self._ports = maps["cp_port_v1"]
        self._ranges = maps["cp_range_v1"]
        self._classes = [maps[width.classes] for width in WIDTHS if width.classes in maps]
        self._in_use = in_use
        self._has_vector = has_vector
        self._installed: dict[int, list[Row]] = {}
        self._users: defaultdict[ClassKey, set[int]] = defaultdict(set)  # the sets of a class
        self._retired: dict[int, float] = {}  # set id -> when it may go
        self._former = {int.from_bytes(key, "little") for key in dump(self._sets)}
        self._let_go: dict[int, float] = {}  # former set id that no slot names -> when it may go
        self._may_prune = False
        self._lock = asyncio.Lock()
        self._vectors = db.table(VECTORS)
        self._vector_feed = self._vectors.observe("policy sets")
        self._unsettled: set[int] = set()
        self._sweep = asyncio.Event()

    def entries(self) -> dict[str, int]:
        counts = dict.fromkeys((m.name for m in (self._sets, self._ports, self._ranges, *self._classes)), 0)
        for parts in self._installed.values():
            for part in parts:
                if part.map not in self._classes:
                    counts[part.map.name] += 1
        return counts | Counter(name for name, _ in self._users)

    async def add_classes(self, wide: KernelMap) -> None:
        """Write classes to this map too from now on; first it gets all that are there, a former agent's too.

        CiliumpyError: it does not take them.
        """
        async with self._lock:
            if wide not in self._classes:
                await asyncio.to_thread(self._copy_classes, wide)

    async def drop_classes(self, name: str) -> None:
        """Write classes to that map no longer."""
        async with self._lock:
            self._classes = [map_ for map_ in self._classes if map_.name != name]
            for number, parts in self._installed.items():
                self._installed[number] = [part for part in parts if part.map.name != name]
            for key in [key for key in self._users if key[0] == name]:
                del self._users[key]

    def _copy_classes(self, wide: KernelMap) -> None:
        narrow = self._classes[0]
        copy_widened(narrow, wide)
        for number, parts in self._installed.items():
            copies = [
                Row(wide, part.key, encode.widened(narrow, wide, part.value)) for part in parts if part.map is narrow
            ]
            self._installed[number] = [*copies, *parts]  # the set itself stays last
            for part in copies:
                self._users[wide.name, part.key].add(number)
        self._classes.append(wide)

    async def update(self, rows: Sequence[PolicySet]) -> Mapping[Hashable, str]:
        wanted = [row for row in rows if row.current and row.id not in self._installed]
        errors: dict[Hashable, str] = {}
        if wanted:
            await self._vectors_settled()
            self._installed.update({row.id: [] for row in wanted})
            async with self._lock:
                errors = await asyncio.to_thread(self._install, wanted)
        with self._db.write() as txn:
            for row in rows:
                if row.id not in errors and txn.get(POLICY_SETS, row.id) == row and row.current:
                    sides = row.ingress_enforced, row.egress_enforced
                    txn.upsert(INSTALLED_SETS, InstalledSet(row.identity, row.id, *sides, row.named_ports))
        return errors

    async def delete(self, rows: Sequence[PolicySet]) -> Mapping[Hashable, str]:
        due = asyncio.get_running_loop().time() + GRACE_S
        with self._db.write() as txn:
            for row in rows:
                key = (row.identity, row.named_ports)
                announced = txn.get(INSTALLED_SETS, key)
                if announced is not None and announced.id == row.id:
                    txn.delete(INSTALLED_SETS, key)
                self._retired[row.id] = due
        self._sweep.set()
        return {}

    async def prune(self, rows: Sequence[PolicySet]) -> int:
        self._may_prune = True
        self._sweep.set()
        async with self._lock:
            return await asyncio.to_thread(self._repair, [row.id for row in rows])

    async def sweep(self) -> None:
        """Job: take sets out of the kernel a second after the last slot has let go of them."""
        loop = asyncio.get_running_loop()
        while True:
            self._sweep.clear()
            for number, due in list(self._retired.items()):
                if self._in_use(number):
                    self._retired[number] = loop.time() + GRACE_S
                elif due <= loop.time():
                    async with self._lock:
                        await asyncio.to_thread(self._remove, number)
                    del self._retired[number]
            if due_now := self._former_due(loop.time()):
                async with self._lock:
                    await asyncio.to_thread(self._remove_former, due_now)
            waiting = bool(self._retired or self._former)
            try:
                await asyncio.wait_for(self._sweep.wait(), GRACE_S / 2 if waiting else None)
            except TimeoutError:
                continue

    def _former_due(self, now: float) -> set[int]:
        """Return the sets of a former agent whose last slot let go of them a second ago.

        They go one by one: where maps are more than half full, what the new agent's copies need is their room.
        """
        if not self._may_prune:
            return set()
        free = {number for number in self._former if not self._in_use(number)}
        self._let_go = {number: self._let_go.get(number, now + GRACE_S) for number in free}
        return {number for number, due in self._let_go.items() if due <= now}

    def _remove_former(self, numbers: set[int]) -> None:
        """Take a former agent's sets out: themselves first, and last the classes that no other set names."""
        going: set[int] = set()
        staying: set[int] = {int.from_bytes(key, "little") for _, key in self._users}
        gone: list[tuple[KernelMap, bytes]] = []
        for map_, field in ((self._sets, "default_class"), (self._ports, ""), (self._ranges, "range")):
            keys, values = map_.items()
            owners = keys if map_ is self._sets else keys["set"]
            named = values[field]["class_id"] if field == "range" else values[field] if field else values
            goes = np.isin(owners, list(numbers))
            going |= set(named[goes].ravel().tolist())
            staying |= set(named[~goes].ravel().tolist())
            gone += [(map_, key.tobytes()) for key in keys[goes]]
        gone += [(map_, encode.u32(number)) for map_ in self._classes for number in going - staying - {0}]
        for map_, key in gone:
            map_.delete(key)
        self._former -= numbers

    def holds(self, set_id: int) -> bool:
        """Tell whether the kernel has the set, or has not yet been rid of it."""
        return set_id in self._installed

    def holds_former(self) -> bool:
        """Tell whether the kernel has sets of the agent before this one."""
        return bool(self._former)

    def drop_former(self) -> int:
        """Remove the sets of a former agent at once, when what their bits mean is lost; return how many.

        Until its new set is written an endpoint whose policy is enforced gets and sends nothing new: closed, not open.
        """
        for number in self._former:
            self._sets.delete(encode.u32(number))
        return len(self._former)

    async def _vectors_settled(self) -> None:
        """Wait until every vector that was written before now is in the kernel. CiliumpyError if one is not.

        An identity that the kernel has no vector of at all, because it takes none, meets every deny of any set and
        nothing else: it need not be waited for.
        """
        for change in self._vector_feed.take():
            if change.deleted:
                self._unsettled.discard(change.row.identity)
            else:
                self._unsettled.add(change.row.identity)
        for identity in list(self._unsettled):
            if identity in self._vectors and self._vectors.status(identity).state != "done":
                try:
                    await self._vectors.wait_done(identity, VECTOR_TIMEOUT_S)
                except CiliumpyError:
                    if self._has_vector(identity):
                        raise
                    continue
            self._unsettled.discard(identity)

    def _install(self, rows: Sequence[PolicySet]) -> dict[Hashable, str]:
        errors: dict[Hashable, str] = {}
        for row in rows:
            try:
                parts = self._rows(row)
            except ValueError as error:
                errors[row.id] = f"the policy does not fit into the datapath: {error}"
                continue
            self._own(row.id, parts)
            for part in parts:
                shared = part.map in self._classes and len(self._users[part.map.name, part.key]) > 1
                error_text = "" if shared else write(part.map, part.key, part.value)
                if error_text:
                    self._remove(row.id)
                    errors[row.id] = f"{error_text}; the former policy stays in force"
                    break
        return errors

    def _rows(self, row: PolicySet) -> list[Row]:
        """Return what the kernel holds of a set, in the order of writing. ValueError: a part does not fit."""
        ranges: defaultdict[bytes, list[PortRow]] = defaultdict(list)
        parts = [
            Row(map_, encode.u32(one.id), encode.class_value(map_, one))
            for one in row.classes
            for map_ in self._classes
        ]
        for port in row.ports:
            key = encode.port_key(self._ports, row.id, port)
            if port.first == port.last:
                parts.append(Row(self._ports, key, encode.u32(port.class_id)))
            else:
                ranges[key].append(port)
        parts += [Row(self._ranges, key, encode.ranges_value(self._ranges, many)) for key, many in ranges.items()]
        return [*parts, Row(self._sets, encode.u32(row.id), encode.set_value(self._sets, row))]

    def _own(self, number: int, parts: list[Row]) -> None:
        self._installed[number] = parts
        for part in parts:
            if part.map in self._classes:
                self._users[part.map.name, part.key].add(number)

    def _remove(self, number: int) -> None:
        """Take a set out: itself first, so that nothing is read half; a class with its last user."""
        for part in reversed(self._installed.pop(number, [])):
            if part.map in self._classes:
                users = self._users[part.map.name, part.key]
                users.discard(number)
                if users:
                    continue
                del self._users[part.map.name, part.key]
            part.map.delete(part.key)

    def _repair(self, numbers: Sequence[int]) -> int:
        """Write again what is missing or differs of installed sets; remove what belongs to no set that is in use."""
        repairs = 0
        present = {map_.name: dump(map_) for map_ in (*self._classes, self._ports, self._ranges, self._sets)}
        wanted: dict[tuple[str, bytes], Row] = {}
        for number in {*numbers, *self._retired}:
            for part in self._installed.get(number, []):
                wanted[part.map.name, part.key] = part
        for (name, key), part in wanted.items():
            if present[name].get(key) != part.value:
                write(part.map, key, part.value)
                repairs += 1
        if repairs:  # what was wrong may have decided
            self._epochs.bump_global()
        # Slots that still point at a former agent's set need its classes: these go with the sets, one by one.
        if self._former:
            return repairs
        for map_ in (self._sets, self._ports, self._ranges, *self._classes):
            for key in present[map_.name]:
                if (map_.name, key) not in wanted:
                    map_.delete(key)
                    repairs += 1
        return repairs

    def highest_ids(self) -> tuple[int, int]:
        """Return the highest set id and class id that the kernel has: a new agent counts on from there."""
        sets, classes = dump(self._sets), dump(self._classes[0])
        return (
            max((int.from_bytes(key, "little") for key in sets), default=0),
            max((int.from_bytes(key, "little") for key in classes), default=0),
        )
