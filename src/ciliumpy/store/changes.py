# SPDX-License-Identifier: Apache-2.0
"""Changes of the store that an agent makes for its users: judged whole, then written whole or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.store.decode import check_kind, decode, version_of
from ciliumpy.store.faults import faults
from ciliumpy.store.kind_words import IMPORTED
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.store.interface import Change, Key, Store


class Fault(NamedTuple):
    """What is wrong with one of the objects given, counted from 0."""

    number: int
    path: Path
    message: str


class RefusedError(CiliumpyError):
    """Objects that cannot be taken; nothing was changed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("refused, nothing was changed", "correct the manifests")
        self.faults = faults


class Changed(NamedTuple):
    """What became of an object. `version` is that of its row once an agent has read it, empty of a deleted one."""

    key: Key
    change: Change
    version: str = ""
    notices: tuple[tuple[Path, str], ...] = ()


class Origins(Protocol):
    """Where the agent has read each object: file and line, first that in force."""

    def __call__(self, key: Key) -> Sequence[tuple[str, int]]: ...


class _Judged(NamedTuple):
    key: Key
    document: dict[str, Any]
    notices: tuple[tuple[Path, str], ...]


class Changes:
    """Imports and deletes. Decoding and files are a thread's work."""

    def __init__(self, store: Store, origins: Origins, options: PolicyOptions) -> None:
        self._store = store
        self._origins = origins
        self._options = options

    async def write(self, documents: Sequence[Any]) -> list[Changed]:
        """Put the objects into the store. RefusedError names every fault of every object; CiliumpyError: the store."""
        judged, wrong = await asyncio.to_thread(self._judge, documents)
        for index, one in judged.items():
            others = [each for each in self._origins(one.key) if not self._store.is_own(one.key, each[0])]
            if others:
                where = f"is in {_place(others[0])}, a file that is never rewritten: change it there"
                wrong.append(Fault(index, (), where))
        if wrong:
            raise RefusedError(sorted(wrong, key=lambda fault: fault.number))
        return await asyncio.to_thread(self._write, list(judged.values()))

    async def delete(self, keys: Sequence[Key]) -> list[Changed]:
        """Delete the objects. RefusedError if one stands in a file of a user; CiliumpyError: the store."""
        wrong = []
        for index, key in enumerate(keys):
            if key.kind not in IMPORTED:
                wrong.append(Fault(index, ("kind",), _not_ours(key.kind)))
                continue
            origins = self._origins(key)
            others = [each for each in origins if not self._store.is_own(key, each[0])]
            if others and len(others) == len(origins):
                where = f"is in {_place(others[0])}, a file that is never rewritten: take it out there"
                wrong.append(Fault(index, (), where))
        if wrong:
            raise RefusedError(wrong)
        return await asyncio.to_thread(self._delete, list(dict.fromkeys(keys)))

    def _judge(self, documents: Iterable[Any]) -> tuple[dict[int, _Judged], list[Fault]]:
        judged: dict[int, _Judged] = {}
        wrong: list[Fault] = []
        seen: set[Key] = set()
        for index, document in enumerate(documents):
            try:
                key = _imported_key(document)
            except FieldError as error:
                wrong.append(Fault(index, error.path, error.message))
                continue
            if key in seen:
                wrong.append(Fault(index, (), f"{key} is given twice"))
                continue
            seen.add(key)
            found, notices = self._decode(key, document)
            wrong += [Fault(index, fault.path, fault.message) for fault in found]
            if not found:
                judged[index] = _Judged(key, _with_namespace(document, key), notices)
        return judged, wrong

    def _decode(self, key: Key, document: dict[str, Any]) -> tuple[list[FieldError], tuple[tuple[Path, str], ...]]:
        notices: tuple[tuple[Path, str], ...] = ()

        def attempt(value: dict[str, Any]) -> None:
            nonlocal notices
            decoded = decode(key, value, origin="", options=self._options)
            notices = decoded.notices if decoded else ()

        return faults(attempt, document), notices

    def _write(self, judged: Sequence[_Judged]) -> list[Changed]:
        prepared = dict(self._store.prepare(one.document) for one in judged)
        with self._store.transaction() as txn:
            changes = txn.change_all(prepared)
        return [
            Changed(one.key, change, version_of(one.document), one.notices)
            for one, change in zip(judged, changes, strict=True)
        ]

    def _delete(self, keys: Sequence[Key]) -> list[Changed]:
        with self._store.transaction() as txn:
            changes = txn.change_all({}, keys)
        return [Changed(key, change) for key, change in zip(keys, changes, strict=True)]


def _imported_key(document: Any) -> Key:
    key = key_of(document)
    if key.kind not in IMPORTED:
        raise FieldError(("kind",), _not_ours(key.kind))
    check_kind(document)
    return key


def _not_ours(kind: str) -> str:
    return f"must be one of {', '.join(IMPORTED)}, not {kind[:80]}"


def _with_namespace(document: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """An object that names no namespace is written with the one that it is in."""
    if not key.namespace:
        return dict(document)
    return {**document, "metadata": {**document["metadata"], "namespace": key.namespace}}


def _place(origin: tuple[str, int]) -> str:
    file, line = origin
    return f"{file}:{line}" if line else file
