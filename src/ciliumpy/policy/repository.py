# SPDX-License-Identifier: Apache-2.0
"""All policies in force, and the identities whose compiled policy a change concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.identity import Reserved
from ciliumpy.model.verdicts import Enforcement
from ciliumpy.policy.compile import Named, compile_policy
from ciliumpy.policy.compiled import Bound, CompiledPolicy
from ciliumpy.policy.selector_cache import SelectorCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ciliumpy.model.rule import Rule
    from ciliumpy.model.selectors import Selector


INIT = f"reserved:{Reserved.INIT.label}"


class PolicyKey(NamedTuple):
    kind: str
    namespace: str
    name: str


class Repository:
    """Policies by key, and the subjects: identities that endpoints of this node have.

    `revision` counts changes of policies. Every method that changes something returns the subjects to compile again.
    """

    def __init__(self, enforcement: Enforcement = Enforcement.DEFAULT) -> None:
        self.revision = 1
        self.enforcement = enforcement
        self._policies: dict[PolicyKey, tuple[Rule, ...]] = {}
        self._by_subject: dict[Selector, dict[PolicyKey, tuple[Rule, ...]]] = {}
        self._subjects = SelectorCache()
        self._unknown: set[int] = set()  # subjects that nobody has told the labels of

    def __len__(self) -> int:
        return len(self._policies)

    @property
    def policies(self) -> Iterable[PolicyKey]:
        return self._policies

    def set_policy(self, key: PolicyKey, rules: Sequence[Rule]) -> set[int]:
        """Add a policy or replace its rules, at once."""
        if self._policies.get(key) == tuple(rules):
            return set()
        affected = self._drop(key)
        self.revision += 1
        self._policies[key] = tuple(rules)
        for subject in dict.fromkeys(rule.subject for rule in rules):
            self._subjects.acquire(subject)
            own = tuple(rule for rule in rules if rule.subject == subject)
            self._by_subject.setdefault(subject, {})[key] = own
            affected |= self._subjects.members(subject)
        return affected

    def remove_policy(self, key: PolicyKey) -> set[int]:
        if key not in self._policies:
            return set()
        self.revision += 1
        return self._drop(key)

    def set_subject(self, identity: int, labels: tuple[str, ...]) -> set[int]:
        """Add a subject or give it other labels."""
        known = identity in self._subjects and (INIT in labels) == (identity in self._unknown)
        gained, lost = self._subjects.set_identity(identity, labels)
        (self._unknown.add if INIT in labels else self._unknown.discard)(identity)
        return {identity} if gained or lost or not known else set()

    def remove_subject(self, identity: int) -> None:
        self._subjects.remove_identity(identity)
        self._unknown.discard(identity)

    def selected_by(self, key: PolicyKey) -> set[int]:
        """Subjects that a policy selects."""
        subjects = {rule.subject for rule in self._policies.get(key, ())}
        return {identity for subject in subjects for identity in self._subjects.members(subject)}

    def policies_of(self, identity: int) -> set[PolicyKey]:
        """Policies that select a subject."""
        return {key for subject in self._subjects.met_by(identity) for key in self._by_subject.get(subject, {})}

    def rules_of(self, identity: int) -> list[Named]:
        """The rules that select a subject, each with its name, sorted by it."""
        found = [
            Named(rule, Bound(*key, rule.path))
            for subject in self._subjects.met_by(identity)
            for key, rules in self._by_subject.get(subject, {}).items()
            for rule in rules
        ]
        return sorted(found, key=lambda named: (named.bound is None, named.bound))

    def compile(self, identity: int) -> CompiledPolicy:
        """Compile the rules of a subject. One whose labels are not known is closed, because no rule can select it."""
        enforcement = self.enforcement
        if identity in self._unknown and enforcement is Enforcement.DEFAULT:
            enforcement = Enforcement.ALWAYS
        return compile_policy(self.rules_of(identity), enforcement)

    def _drop(self, key: PolicyKey) -> set[int]:
        affected: set[int] = set()
        for subject in dict.fromkeys(rule.subject for rule in self._policies.pop(key, ())):
            affected |= self._subjects.members(subject)
            holders = self._by_subject[subject]
            del holders[key]
            if not holders:
                del self._by_subject[subject]
            self._subjects.release(subject)
        return affected
