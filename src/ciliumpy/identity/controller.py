# SPDX-License-Identifier: Apache-2.0
"""Keeps IDENTITIES: the reserved ones, all of the cluster, and a number for every label set that is asked for here."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ciliumpy.identity.allocate import KIND, FreeNumbers, document, is_allocatable, labels_of
from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import reserved_identities
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.identities import IDENTITIES, IDENTITY_REQUESTS, Identity
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import ENDPOINT_OBJECTS, IDENTITY_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.store.interface import Store, Transaction

RETRY = Backoff(first_s=0.1, most_s=10.0)
LEAVING_S = 1.0
Labels = tuple[str, ...]

_log = logging.getLogger(__name__)


class Controller:
    """A job. Allocates when `ready` is set: before the store is read, every label set would look new."""

    def __init__(
        self,
        db: Database,
        store: Store,
        *,
        ready: asyncio.Event,
        ipv4: bool = True,
        ipv6: bool = True,
        fixed: Mapping[int, str] | None = None,
    ) -> None:
        self._db = db
        self._store = store
        self._ready = ready
        self._objects = db.table(IDENTITY_OBJECTS).observe("identity")
        self._requests = db.table(IDENTITY_REQUESTS).observe("identity")
        self._failures = 0
        self._open: dict[Labels, None] = {}  # label sets asked for, to be looked at
        self._lost: set[int] = set()
        self._leaving: set[int] = set()  # whose objects are gone, and addresses have it still
        self._begun: set[Labels] = set()  # label sets whose objects say that they are used
        db.table(IDENTITY_REQUESTS).reconciled = True
        reserved = reserved_identities(ipv4=ipv4, ipv6=ipv6)
        with db.write() as txn:
            for number, labels in reserved.items():
                txn.upsert(IDENTITIES, Identity(number, labels, reserved=True))
            for number, name in (fixed or {}).items():
                txn.upsert(IDENTITIES, Identity(number, (f"reserved:{name}",), reserved=True))

    async def run(self, job: Job) -> None:
        while True:
            self._follow()
            missing = self._missing() if self._ready.is_set() else {}
            if not missing:
                job.ok(f"{len(self._db.table(IDENTITIES))} identities")
                if not self._ready.is_set():
                    await self._ready.wait()
                    continue
                await wait_any(self._objects, self._requests, timeout_s=LEAVING_S if self._leaving else None)
                continue
            try:
                await self._allocate(missing)
                self._failures = 0
            except CiliumpyError as error:
                self._failures += 1
                job.degraded(f"{len(missing)} label sets have no number: {error.message}")
                await wait_any(self._objects, self._requests, timeout_s=RETRY.delay_s(self._failures))

    def _follow(self) -> None:
        """Carry over what the store says."""
        for request in self._requests.take():
            if request.deleted:
                self._begun.discard(request.row.labels)
                self._open.pop(request.row.labels, None)
            else:
                self._open[request.row.labels] = None
        with self._db.write() as txn:
            for change in self._objects.take():
                row = change.row
                former = txn.get(IDENTITIES, row.id)
                for labels in {row.labels, former.labels if former else row.labels}:
                    if txn.get(IDENTITY_REQUESTS, labels) is not None:
                        self._open[labels] = None
                if not is_allocatable(row.id) or not row.labels:
                    _log.warning("CiliumIdentity %d is ignored: it has no labels, or a number that is reserved", row.id)
                elif not change.deleted:
                    txn.upsert(IDENTITIES, Identity(row.id, row.labels))
                    self._leaving.discard(row.id)
                elif txn.get(IDENTITY_REQUESTS, row.labels) is None:
                    self._leaving.add(row.id)
                else:
                    self._lost.add(row.id)  # an endpoint here has it: it is created again
            for number in list(self._leaving):
                # The address first, then what is known of the identity: in between, it would be nobody's.
                if not txn.by(IPCACHE, "identity", number):
                    self._leaving.discard(number)
                    txn.delete(IDENTITIES, number)

    def _missing(self) -> dict[Labels, int]:
        """Label sets asked for that have no number in the store, with the number they had, or 0: of those to look at.

        And those whose number nobody uses yet: the object must say that somebody does, or it may be collected.
        """
        objects, known = self._db.table(IDENTITY_OBJECTS), self._db.table(IDENTITIES)
        used, requests = self._db.table(ENDPOINT_OBJECTS), self._db.table(IDENTITY_REQUESTS)
        missing: dict[Labels, int] = {}
        for labels in [labels for labels in self._open if labels in requests]:
            present = objects.by("labels", labels)
            if present and (labels in self._begun or used.by("identity", present[0].id)):
                self._answer(labels)
                continue
            rows = known.by("labels", labels)
            former = present[0].id if present else next((row.id for row in rows if row.id in self._lost), 0)
            if former or not rows:
                missing[labels] = former
            else:
                self._answer(labels)
        # Who had a number gets it before another is given it.
        return dict(sorted(missing.items(), key=lambda item: not item[1]))

    def _answer(self, labels: Labels, error: str = "") -> None:
        if not error:
            self._open.pop(labels, None)
        table = self._db.table(IDENTITY_REQUESTS)
        table.set_status(labels, table.revision_of(labels), "error" if error else "done", error)

    async def _allocate(self, missing: Mapping[Labels, int]) -> None:
        known = {row.id: row.labels for row in self._db.table(IDENTITY_OBJECTS).all()}
        now_ns = self._db.clock.now_ns()
        numbers, error = await asyncio.to_thread(_in_store, self._store, missing, known, now_ns)
        with self._db.write() as txn:
            for labels, number in numbers.items():
                txn.upsert(IDENTITIES, Identity(number, labels))
                self._leaving.discard(number)
        self._begun |= numbers.keys()
        self._lost.difference_update(numbers.values())
        for labels in missing:
            self._answer(labels, "" if labels in numbers or not error else error.message)
        if error:
            raise error


def _in_store(
    store: Store, missing: Mapping[Labels, int], known: Mapping[int, Labels], now_ns: int
) -> tuple[dict[Labels, int], CiliumpyError | None]:
    """Find or create the identity of each label set, under the store's lock; the error says why not all have one.

    `known` are not read: they have these labels. Every object that is given says from when on it is used.
    """
    with store.transaction() as txn:
        present = {int(name) for _, name in txn.names(KIND) if name.isdecimal()}
        others = _labels_in(txn, present - known.keys())
        free = FreeNumbers(present | known.keys())
        found: dict[Labels, int] = {}
        for labels, former in missing.items():
            mine = former if known.get(former) == labels else 0
            number = others.get(labels, mine)
            if number in present:
                txn.put(document(number, labels, now_ns))
            elif not number:  # else it is in a file that is not ours to write
                try:
                    number = free.take(former)
                except CiliumpyError as error:
                    return found, error
                txn.create(document(number, labels, now_ns))
            found[labels] = number
        return found, None


def _labels_in(txn: Transaction, numbers: set[int]) -> dict[Labels, int]:
    """Label sets of objects that another agent has just created; of two with the same, the lower number."""
    found: dict[Labels, int] = {}
    for number in sorted(filter(is_allocatable, numbers), reverse=True):
        try:
            stored = txn.get(KIND, str(number))
        except CiliumpyError as error:
            _log.warning("CiliumIdentity %d cannot be read, its number is not given away: %s", number, error)
            continue
        if stored is not None:
            found[labels_of(stored.document)] = number
    return found
