# SPDX-License-Identifier: Apache-2.0
"""Labels and requirements, each once: which label hits which requirement, and who has which label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.model.labels import parse
from ciliumpy.model.selectors import CIDR, Operator, network, within

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ciliumpy.model.selectors import Conjunction, Requirement

MANY = 32  # rows that a label keeps as numbers; more become a bit set
POSITIVE = (Operator.IN, Operator.EXISTS)


class Wanted:
    """A requirement in use. A label hits it that has its key and one of its values, whether it is wanted or barred."""

    __slots__ = ("breadth", "labels", "requirement", "uses")

    def __init__(self, requirement: Requirement) -> None:
        self.requirement, self.uses = requirement, 0
        self.labels: set[Label] = set()  # that hit it
        # The namespace and cluster of a policy stand in nearly every selector, and are met by many.
        self.breadth = (
            requirement.operator is not Operator.IN,
            requirement.key.startswith("io."),
            len(requirement.values),
            requirement,
        )

    def is_hit_by(self, label: Label) -> bool:
        wanted = self.requirement
        if wanted.source == CIDR:
            if label.source != CIDR or not within(label.key, wanted.key):
                return False
        elif label.key != wanted.key or wanted.source not in ("any", label.source):
            return False
        return not wanted.values or label.value in wanted.values


class Label:
    """A label that somebody has."""

    __slots__ = ("hits", "key", "rows", "source", "text", "value")

    def __init__(self, text: str) -> None:
        self.text = text
        self.source, self.key, self.value = parse(text)
        self.hits: set[Wanted] = set()
        self.rows: tuple[int, ...] | int = ()  # who has it: a few rows, or a bit set

    def add(self, row: int) -> None:
        if isinstance(self.rows, int):
            self.rows |= 1 << row
        elif row not in self.rows:
            rows = (*self.rows, row)
            self.rows = rows if len(rows) <= MANY else _bits(rows)

    def discard(self, row: int) -> None:
        if isinstance(self.rows, int):
            self.rows &= ~(1 << row)
        else:
            self.rows = tuple(each for each in self.rows if each != row)

    @property
    def bits(self) -> int:
        return self.rows if isinstance(self.rows, int) else _bits(self.rows)


class LabelIndex:
    """Labels by text, requirements in use, and the bit set of all rows."""

    def __init__(self) -> None:
        self.everybody = 0
        self._labels: dict[str, Label] = {}
        self._keys: dict[str, dict[str, set[Label]]] = {}  # key -> value -> labels, of whatever source
        self._cidrs: set[Label] = set()
        self._wanted: dict[Requirement, Wanted] = {}
        self._by_value: dict[tuple[str, str], set[Wanted]] = {}  # (key, value) of In and NotIn
        self._by_key: dict[str, set[Wanted]] = {}  # of Exists and DoesNotExist
        self._by_network: dict[tuple[int, int, int], set[Wanted]] = {}
        self._lengths: dict[tuple[int, int], int] = {}  # (version, length) of these -> how many

    # Rows.

    def put(self, row: int, texts: Iterable[str]) -> tuple[Label, ...]:
        """The row has these labels, besides those it has."""
        labels = tuple(self._labels.get(text) or self._new(text) for text in texts)
        self.everybody |= 1 << row
        for label in labels:
            label.add(row)
        return labels

    def drop(self, row: int, labels: Iterable[Label], keep: Collection[Label] | None = None) -> None:
        """The row has these labels no longer but for `keep`; without `keep` it is gone."""
        if keep is None:
            self.everybody &= ~(1 << row)
        for label in labels:
            if not keep or label not in keep:
                label.discard(row)
                if not label.rows:
                    self._forget(label)

    def _new(self, text: str) -> Label:
        label = self._labels[text] = Label(text)
        self._keys.setdefault(label.key, {}).setdefault(label.value, set()).add(label)
        if label.source == CIDR:
            self._cidrs.add(label)
        for wanted in self._candidates(label):
            if wanted.is_hit_by(label):
                label.hits.add(wanted)
                wanted.labels.add(label)
        return label

    def _forget(self, label: Label) -> None:
        if self._labels.pop(label.text, None) is None:
            return
        for wanted in label.hits:
            wanted.labels.discard(label)
        self._cidrs.discard(label)
        values = self._keys[label.key]
        values[label.value].discard(label)
        if not values[label.value]:
            del values[label.value]
            if not values:
                del self._keys[label.key]

    def _candidates(self, label: Label) -> Iterator[Wanted]:
        """Requirements that the label may hit."""
        yield from self._by_value.get((label.key, label.value), ())
        yield from self._by_key.get(label.key, ())
        inner = _network(label.key) if label.source == CIDR else None
        if inner is not None:
            version, address, length = inner
            for family, shorter in self._lengths:
                if family == version and shorter <= length:
                    bits = (32 if version == 4 else 128) - shorter
                    yield from self._by_network.get((version, address >> bits << bits, shorter), ())

    # Requirements.

    def acquire(self, conjunction: Conjunction) -> tuple[frozenset[Wanted], frozenset[Wanted]]:
        """Use the requirements of a conjunction; those that want a label, and those that bar one."""
        sides: tuple[set[Wanted], set[Wanted]] = (set(), set())
        for requirement in conjunction:
            found = self._wanted.get(requirement) or self._want(requirement)
            found.uses += 1
            sides[requirement.operator not in POSITIVE].add(found)
        return frozenset(sides[0]), frozenset(sides[1])

    def release(self, requirements: Iterable[Wanted]) -> None:
        for wanted in requirements:
            wanted.uses -= 1
            if not wanted.uses:
                del self._wanted[wanted.requirement]
                for label in wanted.labels:
                    label.hits.discard(wanted)
                self._file(wanted, remove=True)

    def having(self, wanted: Wanted) -> int:
        """Rows that have a label which hits it, as a bit set."""
        rows = 0
        few: list[int] = []
        for label in wanted.labels:
            if isinstance(label.rows, int):
                rows |= label.rows
            else:
                few.extend(label.rows)
        return rows | _bits(few) if few else rows

    def _want(self, requirement: Requirement) -> Wanted:
        wanted = self._wanted[requirement] = Wanted(requirement)
        self._file(wanted)
        if requirement.source == CIDR:
            candidates: Iterable[Label] = self._cidrs
        elif requirement.values:
            values = self._keys.get(requirement.key, {})
            candidates = [label for value in requirement.values for label in values.get(value, ())]
        else:
            candidates = [label for found in self._keys.get(requirement.key, {}).values() for label in found]
        for label in candidates:
            if wanted.is_hit_by(label):
                wanted.labels.add(label)
                label.hits.add(wanted)
        return wanted

    def _file(self, wanted: Wanted, *, remove: bool = False) -> None:
        """Put a requirement where new labels look for it, or take it away."""
        requirement = wanted.requirement
        if requirement.source == CIDR:
            outer = _network(requirement.key)
            if outer is not None:
                _switch(self._by_network, outer, wanted, remove=remove)
                length = (outer[0], outer[2])
                self._lengths[length] = self._lengths.get(length, 0) + (-1 if remove else 1)
                if not self._lengths[length]:
                    del self._lengths[length]
        elif requirement.values:
            for value in requirement.values:
                _switch(self._by_value, (requirement.key, value), wanted, remove=remove)
        else:
            _switch(self._by_key, requirement.key, wanted, remove=remove)


def _switch(index: dict, key: object, wanted: Wanted, *, remove: bool) -> None:  # type: ignore[type-arg]
    if not remove:
        index.setdefault(key, set()).add(wanted)
        return
    index[key].discard(wanted)
    if not index[key]:
        del index[key]


def _bits(rows: Collection[int]) -> int:
    """Rows as a bit set."""
    if not rows:
        return 0
    packed = bytearray(max(rows) // 8 + 1)
    for row in rows:
        packed[row >> 3] |= 1 << (row & 7)
    return int.from_bytes(packed, "little")


def _network(key: str) -> tuple[int, int, int] | None:
    """A label key as a prefix; None for one that is none, which a selector may name all the same."""
    try:
        return network(key)
    except ValueError:
        return None
