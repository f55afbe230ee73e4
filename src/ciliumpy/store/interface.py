# SPDX-License-Identifier: Apache-2.0
"""What every store can do, whatever it is made of: list, watch, create, compare and swap, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ciliumpy.model.documents import Document, DocumentError


class Key(NamedTuple):
    """Which object. `namespace` is empty for kinds that have none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


class Stored(NamedTuple):
    """An object as it stands in the store; `version` changes with its content."""

    key: Key
    document: dict[str, Any]
    version: str
    origin: str


class StoreState(msgspec.Struct, frozen=True):
    """Whether the store can be read, and if not, why and since when it is tried again."""

    state: Literal["starting", "ok", "error"]
    message: str = ""


class Read(NamedTuple):
    """One origin (a file) was read: its documents, or the fault that makes it unreadable. Neither: it is gone."""

    origin: str
    documents: tuple[Document, ...] | None
    fault: DocumentError | None = None

    @property
    def gone(self) -> bool:
        return self.documents is None and self.fault is None


class Batch(NamedTuple):
    """What a watch gives: some origins, and the state of the store. `synced`: everything has been given by now."""

    reads: Sequence[Read]
    state: StoreState
    synced: bool


Change = Literal["created", "configured", "unchanged", "deleted", "absent"]


class StoreConflictError(CiliumpyError):
    """The object is there already, or not there, or has another version."""


class Transaction(Protocol):
    """A view of the store that nobody else changes as long as it is open. Synchronous; use a thread where it may wait.

    `create` and `update` raise StoreConflictError; everything raises CiliumpyError if the store cannot be read or
    written.
    """

    def get(self, kind: str, name: str, namespace: str = "") -> Stored | None: ...

    def names(self, kind: str) -> set[tuple[str, str]]:
        """Return (namespace, name) of the objects of that kind that were written through this interface; reads none."""
        ...

    def list(self, kind: str) -> Sequence[Stored]:
        """Return all objects of that kind, sorted by namespace and name. What cannot be read is left out."""
        ...

    def create(self, document: Mapping[str, Any]) -> Stored: ...

    def update(self, document: Mapping[str, Any]) -> Stored: ...

    def put(self, document: Mapping[str, Any]) -> Stored:
        """Create or update."""
        ...

    def change_all(self, prepared: Mapping[Key, bytes], gone: Iterable[Key] = ()) -> Sequence[Change]:
        """Put some objects (see Store.prepare) and delete others, all or none; return what changes by each, in order.

        CiliumpyError where one stands in a file that is not ours to write.
        """
        ...

    def delete(self, kind: str, name: str, namespace: str = "") -> bool:
        """Return whether there was such an object."""
        ...


class Store(Protocol):
    """A place that holds objects."""

    def watch(self) -> AsyncIterator[Batch]:
        """Give everything there is, then every change, for ever. A store that cannot be read is a state, no error."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]: ...

    def prepare(self, document: Mapping[str, Any]) -> tuple[Key, bytes]:
        """Return an object as `change_all` takes it; CiliumpyError if it cannot be stored. Needs no transaction."""
        ...

    def is_own(self, key: Key, origin: str) -> bool:
        """Whether an object read from that origin stands where this interface writes it."""
        ...

    def create_if_absent(self, document: Mapping[str, Any]) -> bool: ...

    def compare_and_swap(self, document: Mapping[str, Any], version: str) -> bool:
        """Replace the object if it still has that version; return whether it had."""
        ...

    def delete(self, kind: str, name: str, namespace: str = "") -> bool: ...
