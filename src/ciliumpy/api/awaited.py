# SPDX-License-Identifier: Apache-2.0
"""Which policies are not yet in force on this node, and why."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from ciliumpy.tables.source import POLICIES, PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ciliumpy.state.database import Database
    from ciliumpy.tables.source import Policy

POLICY_KIND = "NetworkPolicy"  # what the kinds of policies end in


class PolicyCounts(Protocol):
    @property
    def revision(self) -> int: ...

    @property
    def realised(self) -> int: ...

    @property
    def pending(self) -> int: ...


class PolicyView(Protocol):
    """Policy as it is compiled and carried out."""

    @property
    def counts(self) -> PolicyCounts: ...

    def subjects_of(self, kind: str, namespace: str, name: str) -> set[int]:
        """Return the local identities that a policy selects."""
        ...

    def refusals_of(self, identity: int) -> list[str]:
        """Return why policy of a local identity is not in force and will not be until something changes."""
        ...


class Wanted(msgspec.Struct, frozen=True):
    """A policy that shall be in force: in that version, if one is said; or, `gone`, no more."""

    kind: str
    name: str
    namespace: str = ""
    version: str = ""
    gone: bool = False


class Late(NamedTuple):
    """What is not in force; without a name it is the node as a whole."""

    kind: str
    namespace: str
    name: str
    reason: str


class Awaited:
    """Asked again and again until nothing is late. `hopeless`: waiting alone will not help."""

    def __init__(
        self,
        db: Database,
        policies: PolicyView,
        wanted: Sequence[Wanted],
        *,
        everything: bool = False,
        revision: int = 0,
    ) -> None:
        self._db = db
        self._policies = policies
        self._wanted = wanted
        self._everything = everything
        self._revision = revision
        self.hopeless = False

    def late(self) -> list[Late]:
        """Return what is not in force, in the order of what is wanted."""
        self.hopeless = False
        found = [*self._named()]
        counts = self._policies.counts
        if self._everything:
            found += self._every()
        if counts.realised < self._revision:
            found.append(_node(f"revision {counts.realised} is in force, {counts.revision} is the newest"))
        if not found and counts.pending and not self._revision:
            found.append(_node("changes are on their way into the datapath"))
        return found

    def digest(self) -> str:
        """Return what is the same on two nodes that know the same policies."""
        rows = self._db.table(POLICIES).all()
        if not self._everything:
            keys = {(each.kind, each.namespace, each.name) for each in self._wanted}
            rows = [row for row in rows if (row.kind, row.namespace, row.name) in keys]
        known = sorted((row.kind, row.namespace, row.name, row.version) for row in rows)
        return hashlib.blake2b(repr(known).encode(), digest_size=8).hexdigest()

    def _named(self) -> Iterator[Late]:
        table = self._db.table(POLICIES)
        for each in self._wanted:
            row = table.get((each.kind, each.namespace, each.name))
            reason = ""
            if each.gone:
                reason = "it is still there" if row is not None else ""
            elif row is None:
                reason = self._refused(each) or "the node does not have it"
            elif each.version and row.version != each.version:
                reason = self._refused(each) or "the node has another version of it"
            else:
                reason = self._state(row)
            if reason:
                yield Late(each.kind, each.namespace, each.name, reason)

    def _every(self) -> Iterator[Late]:
        for row in self._db.table(POLICIES).all():
            if reason := self._state(row):
                yield Late(row.kind, row.namespace, row.name, reason)
        for problem in self._db.table(PROBLEMS).all():
            kind, _, name = problem.object.partition("/")
            if problem.severity == "error" and (kind.endswith(POLICY_KIND) or not kind):
                self.hopeless = True
                where = f"{problem.origin}:{problem.line}" if problem.line else problem.origin
                namespace, _, name = name.rpartition("/")
                yield Late(kind, namespace, name, f"{where}: {problem.field or 'the object'}: {problem.message}")

    def _state(self, row: Policy) -> str:
        status = self._db.table(POLICIES).status((row.kind, row.namespace, row.name))
        if row.stale:
            self.hopeless = True
            return f"{row.origin} is bad, its last good version is in force"
        if status.state == "error":
            self.hopeless = True
            return status.error
        return "" if status.state == "done" else "it is on its way into the datapath"

    def _refused(self, wanted: Wanted) -> str:
        name = "/".join(part for part in (wanted.kind, wanted.namespace, wanted.name) if part)
        for problem in self._db.table(PROBLEMS).all():
            if problem.object == name and problem.severity == "error":
                where = f"{problem.origin}:{problem.line}" if problem.line else problem.origin
                return f"{where}: {problem.field or 'the object'}: {problem.message}"
        return ""


def _node(reason: str) -> Late:
    return Late("", "", "", reason)
