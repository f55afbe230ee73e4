# SPDX-License-Identifier: Apache-2.0
"""Keeps the pods that shall run running: one sandbox each, started and stopped in worker threads, adopted at start."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import cgroups
from ciliumpy.lab.records import PodRecord
from ciliumpy.lab.runtime import Sandbox, Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ciliumpy.lab.manifests import PodSpec
    from ciliumpy.lab.place import Place

T = TypeVar("T")
LOG = logging.getLogger("lab.kubelet")
_WORKERS = 4
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Wanted(NamedTuple):
    """A Pod that has a node."""

    pod: PodSpec
    node: str
    deployment: str  # empty: a Pod of its own
    group: str  # whose Pods are spread

    @property
    def fingerprint(self) -> str:
        what = repr((self.pod.containers, self.pod.restart, self.pod.hostname, self.pod.uid, self.node))
        return hashlib.sha256(what.encode()).hexdigest()[:16]


class Kubelet:
    """Of all nodes at once. Lives in one event loop; `changed` is called when a record has changed."""

    def __init__(self, place: Place, hidden: list[str], changed: Callable[[], None]) -> None:
        self._place = place
        self._hidden = hidden
        self._changed = changed
        self._zygote = Zygote(place.cgroup / "controller")
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="pod")
        self._busy: set[str] = set()  # container IDs that a worker has
        self._paused: set[str] = set()
        self._watched: dict[str, int] = {}  # container ID -> pidfd of the pod's first process
        self._records: dict[str, PodRecord] = {}  # by container ID

    @property
    def records(self) -> list[PodRecord]:
        return sorted(self._records.values(), key=lambda r: (r.key, r.container_id))

    def adopt(self, records: Iterable[PodRecord]) -> None:
        """Take over the pods of an earlier controller: those that live run on, the others are cleared away."""
        for record in records:
            if not record.container_id:
                continue
            self._records[record.container_id] = record
            if record.phase != "Running" or not self._watch(record):
                record.phase = "Terminating"

    def sync(self, wanted: Mapping[tuple[str, str], Wanted]) -> None:
        """Start what is missing, stop what is too much or has changed. Returns at once; `changed` follows."""
        present: set[tuple[str, str]] = set()
        for record in list(self._records.values()):
            goal = wanted.get(record.key)
            if record.container_id in self._busy:
                present.add(record.key)
            elif record.phase == "Terminating" or goal is None or goal.fingerprint != record.fingerprint:
                present.add(record.key)  # the next one starts when this one has gone
                self._stop(record)
            else:
                present.add(record.key)
                if record.phase == "Pending" and record.container_id not in self._paused:
                    self._start(record, goal)
        for key, goal in wanted.items():
            if key not in present:
                record = PodRecord(
                    goal.pod.namespace,
                    goal.pod.name,
                    goal.pod.uid,
                    goal.node,
                    goal.deployment,
                    goal.pod.hostname,
                    secrets.token_hex(16),
                    goal.fingerprint,
                )
                self._records[record.container_id] = record
                self._start(record, goal)

    def _start(self, record: PodRecord, goal: Wanted) -> None:
        sandbox = Sandbox(self._place, record.node, record.container_id)

        def work() -> tuple[int, list[str]]:
            try:
                return sandbox.start(goal.pod, self._zygote, self._hidden)
            except BaseException:
                sandbox.stop(record.namespace, record.name, record.uid)
                raise

        def done(result: tuple[int, list[str]] | None, error: str) -> None:
            record.message = error
            if result is None:
                pause = _PAUSES_S[min(record.attempts, len(_PAUSES_S) - 1)]
                record.attempts += 1
                self._paused.add(record.container_id)
                asyncio.get_running_loop().call_later(pause, self._retry, record.container_id)
                return
            record.pid, record.addresses = result
            record.phase = "Running" if self._watch(record) else "Terminating"

        self._work(record, work, done)

    def _retry(self, container_id: str) -> None:
        self._paused.discard(container_id)
        self._changed()

    def _stop(self, record: PodRecord) -> None:
        record.phase = "Terminating"
        self._unwatch(record.container_id)
        sandbox = Sandbox(self._place, record.node, record.container_id)

        def work() -> None:
            sandbox.stop(record.namespace, record.name, record.uid)

        def done(_: None, error: str) -> None:
            record.message = error
            if error:
                self._busy.add(record.container_id)
                asyncio.get_running_loop().call_later(_PAUSES_S[-1], self._try_again, record.container_id)
            else:
                del self._records[record.container_id]

        self._work(record, work, done)

    def _try_again(self, container_id: str) -> None:
        self._busy.discard(container_id)
        self._changed()

    def _work(self, record: PodRecord, work: Callable[[], T], done: Callable[[T | None, str], None]) -> None:
        """Have a worker do it; `done` gets the result, or None and the error, back in the loop."""
        loop = asyncio.get_running_loop()
        self._busy.add(record.container_id)

        def finish(result: T | None, error: str) -> None:
            self._busy.discard(record.container_id)
            if error:
                LOG.warning("pod %s/%s: %s", record.namespace, record.name, error)
            done(result, error)
            self._changed()

        def run() -> None:
            result, error = None, ""
            try:
                result = work()
            except CiliumpyError as failure:
                error = failure.message
            except OSError as failure:
                error = str(failure)
            loop.call_soon_threadsafe(finish, result, error)

        self._workers.submit(run)

    def _watch(self, record: PodRecord) -> bool:
        """Watch the pod's first process; False if it has ended."""
        try:
            handle = os.pidfd_open(record.pid)
        except (ProcessLookupError, ValueError):
            return False
        if record.pid not in cgroups.pids(Sandbox(self._place, record.node, record.container_id).cgroup):
            os.close(handle)
            return False
        self._watched[record.container_id] = handle
        asyncio.get_running_loop().add_reader(handle, self._ended, record.container_id)
        return True

    def _ended(self, container_id: str) -> None:
        record = self._records[container_id]
        LOG.warning("pod %s/%s: its first process has ended; it is started anew", record.namespace, record.name)
        record.phase = "Terminating"
        self._unwatch(container_id)
        self._changed()

    def _unwatch(self, container_id: str) -> None:
        handle = self._watched.pop(container_id, None)
        if handle is not None:
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)

    def close(self) -> None:
        """Let go of the pods: they run on."""
        for container_id in list(self._watched):
            self._unwatch(container_id)
        self._workers.shutdown(wait=True)
        self._zygote.close()
