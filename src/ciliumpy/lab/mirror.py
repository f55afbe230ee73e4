# SPDX-License-Identifier: Apache-2.0
"""PURE: the store's documents as last read well, by kind. A file that became unreadable keeps what it held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError
from ciliumpy.store.interface import Key
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ciliumpy.model.documents import Document
    from ciliumpy.store.interface import Batch, Stored


class Mirror:
    """`synced` once everything was read; `fault` says why the store cannot be read, empty while it can.

    `check` raises FieldError for what cannot be taken; the object then stays as it was. `problems` tells of these.
    """

    def __init__(self, check: Callable[[dict[str, Any]], object]) -> None:
        self.synced = False
        self.fault = ""
        self._check = check
        self._origins: dict[str, dict[Key, dict[str, Any]]] = {}
        self._problems: dict[str, list[str]] = {}

    @property
    def problems(self) -> list[str]:
        return [problem for origin in sorted(self._problems) for problem in self._problems[origin]]

    def take(self, batch: Batch) -> None:
        self.fault = batch.state.message if batch.state.state == "error" else ""
        for read in batch.reads:
            self._problems.pop(read.origin, None)
            if read.gone:
                self._origins.pop(read.origin, None)
            elif read.fault is not None:
                self._problems[read.origin] = [f"{read.origin}:{read.fault.line}: {read.fault.message}"]
            elif read.documents is not None:
                self._read(read.origin, read.documents)
        self.synced = self.synced or batch.synced

    def _read(self, origin: str, documents: Sequence[Document]) -> None:
        before = self._origins.get(origin, {})
        objects: dict[Key, dict[str, Any]] = {}
        for document in documents:
            key: Key | None = None
            try:
                key = key_of(document.value)
                self._check(document.value)
                objects[key] = document.value
            except FieldError as error:
                line = document.position(error.path)[0]
                self._problems.setdefault(origin, []).append(f"{origin}:{line}: {error}")
                if key in before:
                    objects[key] = before[key]
        self._origins[origin] = objects

    def put(self, stored: Stored) -> None:
        """Take what was just written, before the watch tells of it."""
        self._origins[stored.origin] = {stored.key: stored.document}

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forget what was just deleted."""
        for objects in self._origins.values():
            objects.pop(Key(kind, namespace, name), None)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the documents of that kind, sorted by key; of duplicates the one whose origin sorts first."""
        found: dict[Key, dict[str, Any]] = {}
        for origin in sorted(self._origins):
            for key, document in self._origins[origin].items():
                if key.kind == kind:
                    found.setdefault(key, document)
        return [found[key] for key in sorted(found)]
