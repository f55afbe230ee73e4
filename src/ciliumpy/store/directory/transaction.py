# SPDX-License-Identifier: Apache-2.0
"""Changing the store: under one lock, file by file, each in one step."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import MOST_BYTES, DocumentError, dump, parse
from ciliumpy.model.errors import FieldError
from ciliumpy.store.directory import files, journal
from ciliumpy.store.interface import Change, Key, StoreConflictError, Stored
from ciliumpy.store.kinds import KINDS, key_of, kind_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LOCK = ".lock"
LOCK_TIMEOUT_S = 10.0
_LOCK_POLL_S = 0.005


@contextmanager
def locked(root: str, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[DirectoryTransaction]:
    """Hold the store's lock and give a view of it. CiliumpyError if it is no store, or the lock is not to be had."""
    check_root(root)
    descriptor = _lock(os.path.join(root, LOCK), timeout_s)
    try:
        journal.recover(root)
        yield DirectoryTransaction(root)
    except OSError as error:
        raise CiliumpyError(f"cannot change the store {root}: {error.strerror or error}") from error
    finally:
        os.close(descriptor)


def check_root(root: str) -> None:
    """CiliumpyError unless the folder is there, can be read, and has its marker."""
    try:
        os.stat(os.path.join(root, files.MARKER))
    except FileNotFoundError:
        if not os.path.isdir(root):
            raise CiliumpyError(f"the store {root} is missing") from None
        raise CiliumpyError(f"{root} is no store: {files.MARKER} is missing in it") from None
    except OSError as error:
        raise CiliumpyError(f"cannot read the store {root}: {error.strerror}") from None


def _lock(path: str, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = "run it as root (sudo)" if isinstance(error, PermissionError) else None
            raise CiliumpyError(f"cannot lock the store by {path}: {error.strerror}", hint) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever removed the file meanwhile made a lock that nobody else sees.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise CiliumpyError(f"the store's lock {path} was held by another process for {timeout_s:g} s")
        time.sleep(_LOCK_POLL_S)


class DirectoryTransaction:
    """The locked view. See interface.Transaction."""

    def __init__(self, root: str) -> None:
        self._root = root

    def get(self, kind: str, name: str, namespace: str = "") -> Stored | None:
        return self._own(_named(kind, name, namespace))

    def names(self, kind: str) -> set[tuple[str, str]]:
        known = kind_named(kind)
        folder = os.path.join(self._root, known.plural)
        if not known.namespaced:
            return {("", name) for name in _stems(folder)}
        return {(space, name) for space in _folders(folder) for name in _stems(os.path.join(folder, space))}

    def list(self, kind: str) -> list[Stored]:
        known = kind_named(kind)
        others = {other.plural for other in KINDS.values() if other is not known}
        found: dict[Key, Stored] = {}
        for folder, folders, names in os.walk(self._root):
            top = folder == self._root
            folders[:] = sorted(f for f in folders if not f.startswith(".") and not (top and f in others))
            for name in sorted(names):
                if files.counts(name) and not (top and name == files.MARKER):
                    for stored in _read(os.path.join(folder, name)):
                        if stored.key.kind == kind:
                            found.setdefault(stored.key, stored)
        return sorted(found.values(), key=lambda stored: stored.key)

    def create(self, document: Mapping[str, Any]) -> Stored:
        key = _checked_key(document)
        data = dump(dict(document))
        try:
            files.write(self._path(key), data, replace=False)
        except FileExistsError:
            raise StoreConflictError(f"{key} is in the store already") from None
        return Stored(key, dict(document), _version(data), self._path(key))

    def update(self, document: Mapping[str, Any]) -> Stored:
        key = _checked_key(document)
        if self._own(key) is None:
            raise StoreConflictError(f"{key} is not in the store")
        return self._write(key, document)

    def put(self, document: Mapping[str, Any]) -> Stored:
        key = _checked_key(document)
        self._own(key)
        return self._write(key, document)

    def delete(self, kind: str, name: str, namespace: str = "") -> bool:
        key = _named(kind, name, namespace)
        if self._own(key) is None:
            return False
        path = self._path(key)
        os.unlink(path)
        if namespace:
            with suppress(OSError):  # others are in it
                os.rmdir(os.path.dirname(path))
        return True

    def change_all(self, prepared: Mapping[Key, bytes], gone: Iterable[Key] = ()) -> Sequence[Change]:
        changes: list[Change] = []
        writes: dict[str, bytes] = {}
        removals: list[str] = []
        for key, data in prepared.items():
            change = self._change(key, data)
            changes.append(change)
            if change != "unchanged":
                writes[path_of(key)] = data
        for key in gone:
            there = self._own(key) is not None
            changes.append("deleted" if there else "absent")
            removals += [path_of(key)] if there else []
        if writes or removals:
            journal.commit(self._root, writes, removals)
        return changes

    def _change(self, key: Key, data: bytes) -> Change:
        try:
            present, _ = files.read(self._path(key))
        except FileNotFoundError:
            return "created"
        except (OSError, DocumentError):
            present = b""
        if present == data:
            return "unchanged"
        self._own(key)
        return "configured"

    def _write(self, key: Key, document: Mapping[str, Any]) -> Stored:
        data = dump(dict(document))
        files.write(self._path(key), data, replace=True)
        return Stored(key, dict(document), _version(data), self._path(key))

    def _own(self, key: Key) -> Stored | None:
        """The object in the file that is ours to write. CiliumpyError if a user put something else there."""
        path = self._path(key)
        if not os.path.lexists(path):
            return None
        found = _read(path, strict=True)
        if [stored.key for stored in found] != [key]:
            raise CiliumpyError(f"{path} holds something else than {key}", "a user's file is never rewritten: move it")
        return found[0]

    def _path(self, key: Key) -> str:
        return os.path.join(self._root, path_of(key))


def prepare(document: Mapping[str, Any]) -> tuple[Key, bytes]:
    """Return an object as `change_all` takes it, outside of the lock. CiliumpyError if it cannot be stored."""
    key, data = _checked_key(document), dump(dict(document))
    if len(data) > MOST_BYTES:
        raise CiliumpyError(f"{key} is larger than {MOST_BYTES >> 20} MiB", "no agent reads more")
    return key, data


def path_of(key: Key) -> str:
    """Where an object that we write stands, below the store."""
    key = _named(key.kind, key.name, key.namespace)
    return os.path.join(kind_named(key.kind).plural, key.namespace, f"{key.name}.yaml")


def _named(kind: str, name: str, namespace: str) -> Key:
    """The key, checked: nothing from outside becomes a path unseen."""
    kind_named(kind)
    try:
        return key_of({"apiVersion": "", "kind": kind, "metadata": {"name": name, "namespace": namespace}})
    except FieldError as error:
        raise CiliumpyError(f"{kind}: {error}") from None


def _checked_key(document: Mapping[str, Any]) -> Key:
    try:
        key = key_of(document)
    except FieldError as error:
        raise CiliumpyError(f"cannot store this object: {error}") from None
    kind = kind_named(key.kind)
    try:
        kind.check_version(document["apiVersion"])
    except FieldError as error:
        raise CiliumpyError(f"{key}: {error}, not {document['apiVersion']}") from None
    return key


def _read(path: str, *, strict: bool = False) -> list[Stored]:
    """The objects of a file; none, unless `strict`, if it cannot be read."""
    try:
        data, _ = files.read(path)
        return [Stored(key_of(d.value), d.value, _version(data), path) for d in parse(data)]
    except (OSError, DocumentError, FieldError) as error:
        if strict:
            raise CiliumpyError(f"{path} cannot be read: {error}") from None
        return []


def _version(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _stems(folder: str) -> Iterator[str]:
    for entry in _entries(folder):
        if files.counts(entry.name) and entry.name.endswith(".yaml"):
            yield entry.name.removesuffix(".yaml")


def _folders(folder: str) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.is_dir() and not entry.name.startswith("."):
            yield entry.name


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
