# SPDX-License-Identifier: Apache-2.0
"""PURE: the store's documents as last read well, by kind. A file that became unreadable keeps what it held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError
from ciliumpy.store.interface import Key
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from ciliumpy.store.interface import Batch, Stored


class Mirror:
    """`synced` once everything was read; `fault` says why the store cannot be read, empty while it can."""

    def __init__(self) -> None:
        self.synced = False
        self.fault = ""
        self._origins: dict[str, dict[Key, dict[str, Any]]] = {}

    def take(self, batch: Batch) -> None:
        self.fault = batch.state.message if batch.state.state == "error" else ""
        for read in batch.reads:
            if read.gone:
                self._origins.pop(read.origin, None)
            elif read.documents is not None:
                objects: dict[Key, dict[str, Any]] = {}
                for document in read.documents:
                    try:
                        objects[key_of(document.value)] = document.value
                    except FieldError:  # the agents report it
                        continue
                self._origins[read.origin] = objects
        self.synced = self.synced or batch.synced

    def put(self, stored: Stored) -> None:
        """Take what was just written, before the watch tells of it."""
        self._origins[stored.origin] = {stored.key: stored.document}

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forget what was just deleted."""
        for objects in self._origins.values():
            objects.pop(Key(kind, namespace, name), None)

    def of(self, kind: str) -> list[tuple[dict[str, Any], str]]:
        """Return (document, origin) of that kind, sorted by key; of duplicates the one whose origin sorts first."""
        found: dict[Key, tuple[dict[str, Any], str]] = {}
        for origin in sorted(self._origins):
            for key, document in self._origins[origin].items():
                if key.kind == kind:
                    found.setdefault(key, (document, origin))
        return [found[key] for key in sorted(found)]
