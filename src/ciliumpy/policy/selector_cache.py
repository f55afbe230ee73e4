# SPDX-License-Identifier: Apache-2.0
"""Who meets which selector, kept up to date while identities and selectors come and go.

Both ways are indexed, so that neither a new selector looks at every identity nor a new identity at every selector: an
identity is found by the labels that a selector requires, a selector by one requirement of each of its alternatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ciliumpy.model.labels import Label, parse
from ciliumpy.model.selectors import CIDR, Conjunction, Operator, Requirement, Selector

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
Term = tuple[str, ...]  # (source, key) or (source, key, value); source may be "any"


class SelectorCache:
    """Identities by number with their labels, selectors in use, and which of them meet."""

    def __init__(self) -> None:
        self._labels: dict[int, tuple[Label, ...]] = {}
        self._texts: dict[int, tuple[str, ...]] = {}
        self._having: dict[Term, set[int]] = {}
        self._members: dict[Selector, set[int]] = {}
        self._met: dict[int, set[Selector]] = {}
        self._uses: dict[Selector, int] = {}
        self._wanting: dict[Term, set[Selector]] = {}
        self._unindexed: set[Selector] = set()  # an alternative requires no label

    def __len__(self) -> int:
        return len(self._uses)

    def __contains__(self, identity: int) -> bool:
        return identity in self._labels

    def members(self, selector: Selector) -> frozenset[int]:
        """Identities that meet a selector in use; empty for one that is not."""
        return frozenset(self._members.get(selector, ()))

    def met_by(self, identity: int) -> frozenset[Selector]:
        """Selectors in use that the identity meets."""
        return frozenset(self._met.get(identity, ()))

    def set_identity(self, identity: int, labels: tuple[str, ...]) -> tuple[set[Selector], set[Selector]]:
        """Add an identity or give it other labels; the selectors that it meets now, and those it met before only."""
        if self._texts.get(identity) == labels:
            return set(), set()
        before = self._met.get(identity, set())
        self._forget(identity)
        parsed = tuple(parse(text) for text in labels)
        self._texts[identity], self._labels[identity] = labels, parsed
        candidates = set(self._unindexed)
        for term in _terms(parsed):
            self._having.setdefault(term, set()).add(identity)
            candidates |= self._wanting.get(term, set())
        met = {selector for selector in candidates if selector.matches(parsed)}
        self._met[identity] = met
        for selector in met:
            self._members[selector].add(identity)
        return met - before, before - met

    def remove_identity(self, identity: int) -> set[Selector]:
        """Remove an identity; the selectors that it met."""
        met = self._met.get(identity, set())
        self._forget(identity)
        return met

    def acquire(self, selector: Selector) -> bool:
        """Use a selector once more; whether it is new."""
        self._uses[selector] = self._uses.get(selector, 0) + 1
        if self._uses[selector] > 1:
            return False
        members: set[int] = set()
        for conjunction in selector.alternatives:
            pivot = _pivot(conjunction)
            if pivot is None:
                self._unindexed.add(selector)
                candidates: Iterable[int] = self._labels
            else:
                terms = _pivot_terms(pivot)
                for term in terms:
                    self._wanting.setdefault(term, set()).add(selector)
                candidates = set().union(*(self._having.get(term, set()) for term in terms))
            only = Selector((conjunction,))
            members.update(i for i in candidates if i not in members and only.matches(self._labels[i]))
        self._members[selector] = members
        for identity in members:
            self._met[identity].add(selector)
        return True

    def release(self, selector: Selector) -> bool:
        """Use a selector once less; whether nobody uses it any more."""
        self._uses[selector] -= 1
        if self._uses[selector]:
            return False
        del self._uses[selector]
        for identity in self._members.pop(selector):
            self._met[identity].discard(selector)
        self._unindexed.discard(selector)
        for conjunction in selector.alternatives:
            pivot = _pivot(conjunction)
            for term in _pivot_terms(pivot) if pivot else ():
                _discard(self._wanting, term, selector)
        return True

    def _forget(self, identity: int) -> None:
        for term in _terms(self._labels.pop(identity, ())):
            _discard(self._having, term, identity)
        self._texts.pop(identity, None)
        for selector in self._met.pop(identity, ()):
            self._members[selector].discard(identity)


def _terms(labels: Iterable[Label]) -> set[Term]:
    """What an identity with these labels is found by."""
    terms: set[Term] = set()
    for source, key, value in labels:
        for name in (source, "any"):
            terms.update(((name, key), (name, key, value)))
    return terms


def _pivot(conjunction: Conjunction) -> Requirement | None:
    """A requirement that needs a label to be there; rather one that needs few values of it."""
    positive = [r for r in conjunction if r.operator in (Operator.IN, Operator.EXISTS) and r.source != CIDR]
    # The namespace and cluster of a policy stand in nearly every selector, and are met by many.
    return min(positive, key=lambda r: (r.operator is not Operator.IN, r.key.startswith("io."), r), default=None)


def _pivot_terms(pivot: Requirement) -> list[Term]:
    if pivot.operator is Operator.EXISTS:
        return [(pivot.source, pivot.key)]
    return [(pivot.source, pivot.key, value) for value in pivot.values]


def _discard(index: dict[Term, set[T]], term: Term, value: T) -> None:
    values = index.get(term)
    if values is not None:
        values.discard(value)
        if not values:
            del index[term]
