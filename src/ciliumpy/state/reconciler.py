# SPDX-License-Identifier: Apache-2.0
"""Carries the rows of a table to where they shall be: kernel maps, links, routes. Incremental, retried, pruned."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.observer import wait_any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.state.table import TableSpec

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

RETRY_BACKOFF = Backoff(first_s=0.05, most_s=30.0)
PRUNE_INTERVAL_S = 60.0
NS = 1_000_000_000


class Target(Protocol[R_contra]):
    """Where rows are carried to. Every method is idempotent and may be repeated at any time.

    `update` and `delete` return the rows that failed, {key: error text}; empty means all is done. Deleting what is not
    there is success. An exception means that all rows of the batch failed.
    """

    async def update(self, rows: Sequence[R_contra]) -> Mapping[Hashable, str]: ...

    async def delete(self, rows: Sequence[R_contra]) -> Mapping[Hashable, str]: ...

    async def prune(self, rows: Sequence[R_contra]) -> int:
        """Given all desired rows: remove what nobody asked for, repair what differs, return how many repairs."""
        ...


class Counters(msgspec.Struct):
    """What a reconciler has done since it was made; for metrics."""

    updates: int = 0
    deletes: int = 0
    failures: int = 0
    retries: int = 0
    stale: int = 0  # results of rows that had changed meanwhile
    prunes: int = 0
    repairs: int = 0


class Retry(NamedTuple, Generic[R]):
    """A row whose last attempt failed; when it was deleted, the row as it was."""

    due_ns: int
    failures: int
    row: R
    deleted: bool


class Reconciler(Generic[R]):
    """Keeps a target equal to a table.

    A table that is still being filled must not empty the kernel: with `hold_prune` nothing is pruned until
    `allow_prune` is called. `synced` is set after the first prune, when everything was carried over or tried once.
    """

    def __init__(
        self,
        db: Database,
        spec: TableSpec[R],
        target: Target[R],
        *,
        clock: Clock,
        batch: int = 1024,
        prune_interval_s: float = PRUNE_INTERVAL_S,
        backoff: Backoff = RETRY_BACKOFF,
        hold_prune: bool = False,
    ) -> None:
        self.counters = Counters()
        self.synced = asyncio.Event()
        self._table = db.table(spec)
        self._table.reconciled = True
        self._key = spec.key
        self._target = target
        self._clock = clock
        self._batch = batch
        self._prune_interval_ns = int(prune_interval_s * NS)
        self._backoff = backoff
        self._hold_prune = hold_prune
        # Taken here and kept over restarts of the job: no deletion is missed in between.
        self._observer = self._table.observe(f"reconciler of {spec.name}")
        self._retries: dict[Hashable, Retry[R]] = {}
        self._prune_due_ns = clock.monotonic_ns()
        self._prune_failures = 0
        self._prune_error = ""

    def close(self) -> None:
        """Stop observing the table; for a reconciler that will not run again."""
        self._observer.close()

    def prune_soon(self) -> None:
        """Have everything compared now, not when the timer says."""
        self._prune_due_ns = self._clock.monotonic_ns()
        self._observer.poke()

    def allow_prune(self) -> None:
        """Say that the table is complete: from now on the target is pruned."""
        self._hold_prune = False
        self.prune_soon()

    async def run(self, job: Job) -> None:
        """Reconcile for ever, reporting on the job."""
        while True:
            await self.round()
            self._report(job)
            await self._wait()

    async def round(self) -> None:
        """Carry over what has changed or is due again, and prune if it is time."""
        await self._incremental()
        if not self._hold_prune and self._clock.monotonic_ns() >= self._prune_due_ns:
            await self._prune()

    async def _incremental(self) -> None:
        now_ns = self._clock.monotonic_ns()
        due = {
            key: (retry.row, retry.deleted, retry.failures)
            for key, retry in self._retries.items()
            if retry.due_ns <= now_ns
        }
        self.counters.retries += len(due)
        if not self._observer.started:
            self._table.follow_deletions()  # what went before was never carried anywhere
        for change in self._observer.take():
            key = self._key(change.row)
            due.pop(key, None)
            # A row that changed is tried at once and its back-off begins anew.
            self._retries.pop(key, None)
            due[key] = (change.row, change.deleted, 0)
        # Deletions first: they make room in maps that are full.
        for deleted in (True, False):
            rows = [(key, row, failures) for key, (row, gone, failures) in due.items() if gone == deleted]
            for batch in _batches(rows, self._batch):
                await self._carry(batch, deleted=deleted)

    async def _carry(self, batch: Sequence[tuple[Hashable, R, int]], *, deleted: bool) -> None:
        # The observer's rows, unless they changed while an earlier batch was on its way: then they come again.
        revisions = {key: self._table.revision_of(key) for key, _, _ in batch}
        live = [item for item in batch if deleted or self._table.get(item[0]) is item[1]]
        self.counters.stale += len(batch) - len(live)
        rows = [row for _, row, _ in live]
        if not rows:
            return
        errors: Mapping[Hashable, str]
        try:
            errors = await (self._target.delete(rows) if deleted else self._target.update(rows))
        except Exception as error:  # noqa: BLE001 - whatever it was, these rows are not done and are tried again
            text = _explain(error)
            errors = {key: text for key, _, _ in live}
        now_ns = self._clock.monotonic_ns()
        for key, row, failures in live:
            text = errors.get(key, "")
            if text:
                self.counters.failures += 1
                delay_ns = int(self._backoff.delay_s(failures + 1) * NS)
                self._retries[key] = Retry(now_ns + delay_ns, failures + 1, row, deleted)
            else:
                self._retries.pop(key, None)
            if deleted:
                self.counters.deletes += not text
                if not text:
                    self._table.set_gone(key)
                continue
            self.counters.updates += not text
            if not self._table.set_status(key, revisions[key], "error" if text else "done", text):
                self.counters.stale += 1

    async def _prune(self) -> None:
        rows = self._table.all()
        try:
            repairs = await self._target.prune(rows)
        except Exception as error:  # noqa: BLE001 - reported on the job, and tried again
            self._prune_failures += 1
            self._prune_error = _explain(error)
            delay_ns = int(self._backoff.delay_s(self._prune_failures) * NS)
            self._prune_due_ns = self._clock.monotonic_ns() + max(delay_ns, NS)
            return
        self._prune_failures = 0
        self.counters.prunes += 1
        self.counters.repairs += repairs
        self._prune_due_ns = self._clock.monotonic_ns() + self._prune_interval_ns
        self.synced.set()

    def _report(self, job: Job) -> None:
        if self._prune_failures:
            job.degraded(f"cannot compare with the target: {self._prune_error}")
        elif self._retries:
            key, retry = next(iter(self._retries.items()))
            status = self._table.status(key) if key in self._table else None
            what = "cannot be removed" if retry.deleted else (status.error if status else "")
            job.degraded(f"{len(self._retries)} of {len(self._table)} rows fail, first {key}: {what}")
        else:
            job.ok(f"{len(self._table)} rows")

    async def _wait(self) -> None:
        due = [retry.due_ns for retry in self._retries.values()]
        if not self._hold_prune:
            due.append(self._prune_due_ns)
        timeout_s = None
        if due:
            timeout_s = max(0.0, (min(due) - self._clock.monotonic_ns()) / NS)
        await wait_any(self._observer, timeout_s=timeout_s)


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _explain(error: Exception) -> str:
    if isinstance(error, CiliumpyError):
        return error.message
    return f"{type(error).__name__}: {error}"
