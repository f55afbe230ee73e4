# SPDX-License-Identifier: Apache-2.0
"""The job that carries the store into the source tables, in slices that leave the loop to others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.options import PolicyOptions
from ciliumpy.store.catalog import Catalog, Decision
from ciliumpy.store.interface import Key, Read, Store, StoreState
from ciliumpy.tables.source import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.store.last_good import LastGood
    from ciliumpy.tables.source import Problem

SLICE_S = 0.0025  # of judging or writing; as much again goes into reading
AGAIN_S = 1.0  # from one attempt to remember to the next
SAVE_AT = 500  # objects, while the store is read for the first time

DEFAULTS = PolicyOptions()
_log = logging.getLogger(__name__)


class Reflector:
    """Start `run` and `keep` as jobs.

    `synced` is set when the tables hold what the store holds; `ready` then too, or before, while the store cannot be
    read, when they hold what it held when it last could.
    """

    def __init__(self, db: Database, store: Store, last_good: LastGood, *, options: PolicyOptions = DEFAULTS) -> None:
        self.state = StoreState("starting")
        self.ready = asyncio.Event()
        self.synced = asyncio.Event()
        self._db = db
        self._store = store
        self._last_good = last_good
        self._catalog = Catalog(last_good, options)
        self._remember: dict[Key, tuple[str, bytes] | None] = {}
        self._memory_fault = ""
        self._saving = asyncio.Lock()
        self._unsaved = asyncio.Event()
        self._job: Job | None = None

    def origins_of(self, key: Key) -> list[tuple[str, int]]:
        """Return where an object was read, file and line: first that in force, then those refused beside it."""
        return self._catalog.origins_of(key)

    async def document_of(self, key: Key) -> dict[str, Any] | None:
        """Return the object in force as it was written; None if there is none, or nothing remembers it."""
        waiting = self._remember.get(key)
        if waiting is not None:
            found: dict[str, Any] = msgspec.json.decode(waiting[1])
            return found
        remembered = await asyncio.to_thread(self._last_good.get, key)
        return remembered.document if remembered else None

    async def documents(self, kinds: Collection[str]) -> list[dict[str, Any]]:
        """Return the objects in force of these kinds as they were written, sorted by kind, namespace and name."""
        waiting = dict(self._remember)
        keys = self._catalog.keys

        def collect() -> list[dict[str, Any]]:
            found = {each.key: each.document for each in self._last_good.of_kinds(kinds)}
            found |= {key: msgspec.json.decode(saved[1]) for key, saved in waiting.items() if saved is not None}
            return [found[key] for key in sorted(found) if key in keys and key.kind in kinds]

        return await asyncio.to_thread(collect)

    async def keep(self) -> None:
        """Job: remember what is in force, and what the disk had no room for as soon as it has.

        Beside `run`: a disk that takes seconds must not keep the next change from taking effect.
        """
        try:
            while True:
                await self._unsaved.wait()
                self._unsaved.clear()
                await self._save()
                if self._job is not None:
                    self._report(self._job)
                if self._memory_fault:
                    await asyncio.sleep(AGAIN_S)
        finally:  # the agent ends
            with contextlib.suppress(CiliumpyError):
                self._last_good.save(*_sorted(self._remember))

    async def run(self, job: Job) -> None:
        """Follow the store for ever."""
        self._job = job
        seen: set[str] = set()
        complete = False
        async for batch in self._store.watch():
            self.state = batch.state
            if batch.state.state == "error":
                if not self.ready.is_set():
                    await self._restore()
                self._report(job)
                continue
            for read in batch.reads:
                if not complete:
                    seen.add(read.origin)
                await self._apply(read)
            if batch.synced and not complete:
                complete = True
                await self._finish(seen)
            if complete and self._remember:
                self._unsaved.set()
            elif len(self._remember) >= SAVE_AT:
                await self._save()
            self._report(job)

    async def _apply(self, read: Read) -> None:
        began = time.monotonic()
        for step in self._catalog.read(read):
            if step is not None:
                await self._settle(step)
            elif time.monotonic() - began > SLICE_S:
                await asyncio.sleep(0)
                began = time.monotonic()

    async def _settle(self, decision: Decision) -> None:
        changes = self._catalog.settle(decision)
        work = [(spec, spec.key(row), row) for spec, row in changes.upserts]
        work += [(spec, key, None) for spec, key in changes.deletes]
        at = 0
        while at < len(work):
            began = time.monotonic()
            with self._db.write() as txn:
                while at < len(work) and time.monotonic() - began < SLICE_S:
                    spec, key, row = work[at]
                    if row is None:
                        txn.delete(spec, key)
                    else:
                        txn.upsert(spec, row)
                    at += 1
            if at < len(work):
                await asyncio.sleep(0)
        with self._db.write() as txn:
            for problem in changes.solved:
                txn.delete(PROBLEMS, PROBLEMS.key(problem))
            for problem in changes.problems:
                txn.upsert(PROBLEMS, problem)
        for problem in changes.solved:
            _log.info("no more: %s", _said(problem))
        for problem in changes.problems:
            _log.log(logging.WARNING if problem.severity == "error" else logging.INFO, "%s", _said(problem))
        for key, origin, document in changes.remember:
            self._remember[key] = (origin, document)
        for key in changes.forget:
            self._remember[key] = None

    async def _restore(self) -> None:
        """Fill the tables from memory: an agent that starts without its store must not forget its policies."""
        for origin in await asyncio.to_thread(self._last_good.origins):
            await self._settle(self._catalog.restore(origin))
            await asyncio.sleep(0)
        if self._catalog.keys:
            self.ready.set()

    async def _finish(self, seen: set[str]) -> None:
        """What was known before this watch began and was not found by it is gone."""
        for origin in sorted(self._catalog.origins - seen):
            await self._apply(Read(origin, None))
        self._catalog.complete = True
        self.ready.set()
        self.synced.set()
        await self._save()
        if not self._memory_fault:
            await self._in_memory(self._last_good.keep_only, self._catalog.keys)

    async def _save(self) -> None:
        async with self._saving:  # or an older version could be written last
            if not self._remember and not self._memory_fault:
                return
            pending, self._remember = self._remember, {}
            if not await self._in_memory(self._last_good.save, *_sorted(pending)):
                self._remember = pending | self._remember

    async def _in_memory(self, change: Callable[..., None], *arguments: Any) -> bool:
        """Change the last good versions in a thread. A disk that is full must not keep policies from taking effect."""
        thread = asyncio.get_running_loop().run_in_executor(None, change, *arguments)
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            await asyncio.wait([thread])  # or it would come after what is saved last
            raise
        except CiliumpyError as error:
            self._memory_fault = error.message
            self._unsaved.set()
            return False
        self._memory_fault = ""
        return True

    def _report(self, job: Job) -> None:
        if self.state.state == "error" or self._memory_fault:
            job.degraded(self.state.message or self._memory_fault)
        else:
            job.ok(f"{len(self._catalog)} objects")


def _sorted(pending: Mapping[Key, tuple[str, bytes] | None]) -> tuple[list[tuple[Key, str, bytes]], list[Key]]:
    """Return what to remember, and what to forget."""
    objects = [(key, *saved) for key, saved in pending.items() if saved is not None]
    return objects, [key for key, saved in pending.items() if saved is None]


def _said(problem: Problem) -> str:
    where = f"{problem.origin}:{problem.line}" if problem.line else problem.origin
    return ": ".join(filter(None, (where, problem.object, problem.field, problem.message)))
