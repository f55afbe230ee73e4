# SPDX-License-Identifier: Apache-2.0
"""Which version of which object is in force, and what is wrong with the others. No I/O but the last good versions.

An origin (a file) claims the objects it holds. A bad document claims nothing; in its place stands the last good version
of its object, marked stale. Of several claims to one object the first stays in force, until its origin lets go of it.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ciliumpy.model.documents import Document, DocumentError
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.state.table import TableSpec
from ciliumpy.store.decode import UNENFORCED, Decoded, check_kind, decode
from ciliumpy.store.kinds import key_of
from ciliumpy.tables.source import Problem

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.store.interface import Key, Read
    from ciliumpy.store.last_good import LastGood, Remembered

_log = logging.getLogger(__name__)
_STAYS = "its last good version stays in force"
_NO_EFFECT = "it has no effect"


class Claim(msgspec.Struct):
    """An object as one origin has it. `document` is its JSON where it is to be remembered, else empty."""

    spec: TableSpec[Any] | None
    row: Any
    line: int
    stale: bool
    document: bytes


class Decision(NamedTuple):
    """What one origin holds now."""

    origin: str
    claims: dict[Key, Claim]
    problems: tuple[Problem, ...]


class Changes(NamedTuple):
    """What to carry into the tables and to the disk: rows to write and to remove, problems, objects to remember."""

    upserts: list[tuple[TableSpec[Any], Any]]
    deletes: list[tuple[TableSpec[Any], Hashable]]
    problems: list[Problem]
    solved: list[Problem]
    remember: list[tuple[Key, str, bytes]]
    forget: list[Key]


class Catalog:
    """All claims. `read` judges an origin, step by step; `settle` puts the judgement in force."""

    def __init__(self, last_good: LastGood, options: PolicyOptions) -> None:
        self._last_good = last_good
        self._options = options
        self._claims: dict[str, dict[Key, Claim]] = {}
        self._in_force: dict[Key, str] = {}
        self._rivals: dict[Key, set[str]] = {}
        self._problems: dict[Hashable, tuple[Problem, ...]] = {}
        self.complete = False
        """Whether every origin was read once. Before, of two claims that wins which was in force when we last ran."""

    def __len__(self) -> int:
        return len(self._in_force)

    @property
    def keys(self) -> set[Key]:
        return set(self._in_force)

    @property
    def origins(self) -> set[str]:
        return set(self._claims) | {group for group in self._problems if isinstance(group, str)}

    def origins_of(self, key: Key) -> list[tuple[str, int]]:
        """Return where an object stands, file and line: first that in force, then those refused beside it."""
        holder = self._in_force.get(key)
        if holder is None:
            return []
        places = [holder, *sorted(self._rivals.get(key, ()))]
        return [(origin, self._claims[origin][key].line) for origin in places]

    def read(self, read: Read) -> Iterator[Decision | None]:
        """Judge an origin. Gives None after each document, so that others may have their turn; last, the decision."""
        judge = _Judge(self, read.origin)
        for document in flat(read.documents or ()):
            judge.document(document)
            yield None
        fault = read.fault
        if read.documents == () and judge.before:
            fault = DocumentError("holds no object any more; remove the file to remove its objects")
        yield judge.decide(fault)

    def restore(self, origin: str) -> Decision:
        """Return what the origin held when it could last be read; for a start without the store."""
        judge = _Judge(self, origin)
        return Decision(origin, {key: _stale(claim) for key, claim in judge.before.items()}, ())

    def settle(self, decision: Decision) -> Changes:
        """Put a decision in force and return what changes by it."""
        changes = Changes([], [], [], [], [], [])
        origin, claims = decision.origin, decision.claims
        old = self._claims.get(origin, {})
        if claims:
            self._claims[origin] = claims
        else:
            self._claims.pop(origin, None)
        for key, claim in old.items():
            if key not in claims:
                self._release(key, origin, claim, changes)
        for key, claim in claims.items():
            self._claim(key, origin, claim, changes)
        self._say(origin, decision.problems, changes)
        return changes

    def _claim(self, key: Key, origin: str, claim: Claim, changes: Changes) -> None:
        holder = self._in_force.setdefault(key, origin)
        if holder == origin:
            self._enforce(key, origin, claim, changes)
        elif not self.complete and (last := self._last_good.get(key)) is not None and last.origin == origin:
            self._in_force[key] = origin
            self._rivals.setdefault(key, set()).add(holder)
            self._enforce(key, origin, claim, changes)
        else:
            self._rivals.setdefault(key, set()).add(origin)
        self._say_rivals(key, changes)

    def _release(self, key: Key, origin: str, claim: Claim, changes: Changes) -> None:
        rivals = self._rivals.get(key, set())
        if self._in_force[key] != origin:
            rivals.discard(origin)
        elif rivals:
            heir = min(rivals)
            rivals.discard(heir)
            self._in_force[key] = heir
            self._enforce(key, heir, self._claims[heir][key], changes)
        else:
            del self._in_force[key]
            changes.forget.append(key)
            if claim.spec is not None:
                changes.deletes.append((claim.spec, claim.spec.key(claim.row)))
        if not rivals:
            self._rivals.pop(key, None)
        self._say_rivals(key, changes)

    def _enforce(self, key: Key, origin: str, claim: Claim, changes: Changes) -> None:
        if claim.spec is not None:
            changes.upserts.append((claim.spec, claim.row))
        if claim.document:
            changes.remember.append((key, origin, claim.document))
            claim.document = b""

    def _say_rivals(self, key: Key, changes: Changes) -> None:
        rivals = self._rivals.get(key, ())
        if not rivals and key not in self._problems:
            return
        holder = self._in_force.get(key, "")
        first = f"{holder}:{self._claims[holder][key].line}" if rivals else ""
        said = tuple(
            Problem(rival, str(key), self._claims[rival][key].line, "", f"is in {first} already: refused", "error")
            for rival in sorted(rivals)
        )
        self._say(key, said, changes)

    def _say(self, group: Hashable, problems: tuple[Problem, ...], changes: Changes) -> None:
        old = self._problems.get(group, ())
        if problems:
            self._problems[group] = problems
        else:
            self._problems.pop(group, None)
        changes.solved.extend(problem for problem in old if problem not in problems)
        changes.problems.extend(problem for problem in problems if problem not in old)


class _Judge:
    """Decides about one origin, document by document."""

    def __init__(self, catalog: Catalog, origin: str) -> None:
        self._claims: dict[Key, Claim] = {}
        self._problems: dict[Problem, None] = {}
        self._catalog = catalog
        self._origin = origin
        self._keep_all = False

    @cached_property
    def before(self) -> Mapping[Key, Claim]:
        """What the origin held so far; if it was not read yet, what it held when it last could be."""
        claims = self._catalog._claims.get(self._origin)
        if claims is not None:
            return claims
        remembered = ((r.key, self._decode(r)) for r in self._catalog._last_good.of_origin(self._origin))
        return {key: claim for key, claim in remembered if claim is not None}

    def decide(self, fault: DocumentError | None) -> Decision:
        """Close the case. With a fault nothing in the file can be trusted: all it held stays."""
        if fault is not None:
            self._keep_all = True
            said = _STAYS if self.before else _NO_EFFECT
            self._problem("", fault.line, "", f"{fault.message}: {said}", "error")
        if self._keep_all:
            for key, claim in self.before.items():
                self._claims.setdefault(key, _stale(claim))
        return Decision(self._origin, self._claims, tuple(self._problems))

    def document(self, document: Document) -> None:
        key: Key | None = None
        try:
            key = key_of(document.value)
            said = check_kind(document.value)
            if said is not None:
                severity = "error" if key.kind in UNENFORCED else "notice"
                self._problem(str(key), document.line, "kind", said, severity)
                return
            if key in self._claims:
                message = f"is in {self._origin}:{self._claims[key].line} already: refused"
                self._problem(str(key), document.line, "", message, "error")
                return
            decoded = decode(key, document.value, origin=self._origin, options=self._catalog._options)
        except FieldError as error:
            self._refuse(key, document, error)
            return
        except Exception as error:  # noqa: BLE001 - a defect that one document finds must not stop the others
            _log.exception("%s: %s cannot be decoded", self._origin, key)
            self._refuse(key, document, FieldError((), f"cannot be decoded, by a defect of this program: {error!r}"))
            return
        self._claims[key] = _claim(decoded, document.line, msgspec.json.encode(document.value))
        for path, text in decoded.notices if decoded else ():
            self._problem(str(key), document.position(path)[0], path_text(path), text, "notice")

    def _refuse(self, key: Key | None, document: Document, error: FieldError) -> None:
        if key is None:
            # It may be any of those that the file held before: none of them is given up.
            self._keep_all = True
            stays = bool(self.before)
        else:
            stays = self._recall(key)
        line = document.position(error.path)[0]
        said = f"{error.message}: {_STAYS if stays else _NO_EFFECT}"
        self._problem(str(key) if key else "", line, path_text(error.path), said, "error")

    def _recall(self, key: Key) -> bool:
        """Claim the last good version of an object; return whether one is in force, here or elsewhere."""
        claim = self._catalog._claims.get(self._origin, {}).get(key)
        if claim is None and key not in self._catalog._in_force:
            remembered = self._catalog._last_good.get(key)
            claim = self._decode(remembered) if remembered else None
        if claim is None:
            return key in self._catalog._in_force
        self._claims.setdefault(key, _stale(claim))
        return True

    def _decode(self, remembered: Remembered) -> Claim | None:
        key = remembered.key
        try:
            decoded = decode(key, remembered.document, origin=self._origin, options=self._catalog._options)
        except FieldError:  # another version of this program found it good
            return None
        return _claim(decoded, 0, b"")

    def _problem(self, subject: str, line: int, field: str, message: str, severity: str) -> None:
        self._problems[Problem(self._origin, subject, line, field, message, severity)] = None


def _claim(decoded: Decoded | None, line: int, document: bytes) -> Claim:
    if decoded is None:
        return Claim(None, None, line, stale=False, document=document)
    return Claim(decoded.spec, decoded.row, line, stale=False, document=document)


def _stale(claim: Claim) -> Claim:
    row = claim.row
    if claim.spec is not None and "stale" in claim.spec.row.__struct_fields__:
        row = msgspec.structs.replace(row, stale=True)
    return Claim(claim.spec, row, claim.line, stale=True, document=claim.document)


def flat(documents: tuple[Document, ...]) -> Iterator[Document]:
    """The documents, those inside a `kind: List` one by one."""
    for document in documents:
        value = document.value
        if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
            for index, item in enumerate(value["items"]):
                yield document.part(item, ("items", index))
        else:
            yield document
