# SPDX-License-Identifier: Apache-2.0
"""Who meets which selector, kept up to date while identities and selectors come and go.

Labels and requirements are interned, and each label knows the requirements that it hits. A new identity's labels
therefore name all requirements that it meets, and each of these the conjunctions that are looked for by it. A new
selector is set algebra: the identities that have a label are a bit set, so one that ten thousand identities meet costs
as much as one that twenty do. Who meets what is one matrix of bits, a row an identity, a column a selector; the columns
may be numbered by the caller, and then a row is the identity's vector.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.policy.label_index import Label, LabelIndex, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from ciliumpy.model.selectors import Selector

FEW = 64  # so many at once are looked at one by one


class _Conjunction:
    """One alternative of a selector in use: meets whoever has a label for each of `wanted` and none for `barred`."""

    __slots__ = ("barred", "entry", "wanted")

    def __init__(self, entry: _Entry, wanted: frozenset[Wanted], barred: frozenset[Wanted]) -> None:
        self.entry, self.wanted, self.barred = entry, wanted, barred


class _Entry:
    """A selector in use."""

    __slots__ = ("alternatives", "number", "selector", "uses")

    def __init__(self, selector: Selector, number: int) -> None:
        self.selector, self.number, self.uses = selector, number, 1
        self.alternatives: tuple[_Conjunction, ...] = ()


class SelectorCache:
    """Identities by number with their labels, selectors in use, and which of them meet."""

    def __init__(self) -> None:
        self._index = LabelIndex()
        self._entries: dict[Selector, _Entry] = {}
        self._by_number: dict[int, _Entry] = {}
        self._slots: dict[int, int] = {}  # identity -> row
        self._identities: list[int] = []  # row -> identity, 0 where it is free
        self._texts: list[tuple[str, ...]] = []
        self._labels: list[tuple[Label, ...]] = []
        self._free: list[int] = []
        self._free_numbers: list[int] = []
        self._pivots: dict[Wanted, set[_Conjunction]] = {}
        self._unindexed: set[_Conjunction] = set()  # alternatives that require no label
        self._met: NDArray[np.uint8] = np.zeros((16, 8), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, identity: int) -> bool:
        return identity in self._slots

    def members(self, selector: Selector) -> frozenset[int]:
        """Identities that meet a selector in use; empty for one that is not."""
        entry = self._entries.get(selector)
        return frozenset() if entry is None else frozenset(self.column(entry.number))

    def column(self, number: int) -> list[int]:
        """Identities that meet the selector of that number."""
        column = self._met[: len(self._identities), number >> 3] & (1 << (number & 7))
        return [self._identities[slot] for slot in np.flatnonzero(column).tolist()]

    def met_by(self, identity: int) -> frozenset[Selector]:
        """Selectors in use that the identity meets."""
        return frozenset(self._by_number[number].selector for number in self.numbers_of(identity))

    def numbers_of(self, identity: int) -> list[int]:
        """The numbers of the selectors that an identity meets, in order."""
        slot = self._slots.get(identity)
        if slot is None:
            return []
        return np.flatnonzero(np.unpackbits(self._met[slot], bitorder="little")).tolist()

    def row(self, identity: int, size: int) -> bytes:
        """What an identity meets: selector n is bit n of `size` little-endian bits. KeyError: it is not known."""
        self._widen(size - 1)
        return self._met[self._slots[identity], : size // 8].tobytes()

    def number(self, selector: Selector) -> int:
        """The number of a selector in use. KeyError."""
        return self._entries[selector].number

    # Identities.

    def set_identity(self, identity: int, labels: tuple[str, ...]) -> bool:
        """Add an identity or give it other labels; whether it meets other selectors than before."""
        slot = self._slots.get(identity)
        if slot is not None and self._texts[slot] == labels:
            return False
        slot = self._place(identity, labels)
        flags = np.zeros(8 * self._met.shape[1], dtype=np.uint8)
        flags[list(self._meets(self._labels[slot]))] = 1
        met = np.packbits(flags, bitorder="little")
        changed = not np.array_equal(met, self._met[slot])
        self._met[slot] = met
        return changed

    def set_identities(self, labels: Mapping[int, tuple[str, ...]]) -> Iterator[None]:
        """Add many at once, or give them other labels. Each step is short; what is asked between them is not final."""
        if len(labels) <= FEW:
            for identity, texts in labels.items():
                self.set_identity(identity, texts)
                yield
            return
        for count, (identity, texts) in enumerate(labels.items()):
            self._place(identity, texts)
            if not count % FEW:
                yield
        for entry in list(self._entries.values()):
            if self._by_number.get(entry.number) is entry:
                self._write_column(entry)
                yield

    def remove_identity(self, identity: int) -> None:
        """Forget an identity, if it is known."""
        slot = self._slots.pop(identity, None)
        if slot is not None:
            self._index.drop(slot, self._labels[slot])
            self._identities[slot], self._texts[slot], self._labels[slot] = 0, (), ()
            self._met[slot] = 0
            heapq.heappush(self._free, slot)

    def _place(self, identity: int, texts: tuple[str, ...]) -> int:
        """Put the identity with these labels into the index; its row."""
        slot = self._slots.get(identity)
        if slot is None:
            slot = heapq.heappop(self._free) if self._free else len(self._identities)
            self._slots[identity] = slot
            if slot == len(self._identities):
                self._identities.append(0)
                self._texts.append(())
                self._labels.append(())
            if slot >= len(self._met):
                self._met = np.vstack((self._met, np.zeros_like(self._met)))
            self._identities[slot] = identity
        former = self._labels[slot]
        self._texts[slot] = texts
        self._labels[slot] = self._index.put(slot, texts)
        self._index.drop(slot, former, keep=self._labels[slot])
        return slot

    def _meets(self, labels: tuple[Label, ...]) -> set[int]:
        hit: set[Wanted] = set()
        for label in labels:
            hit |= label.hits
        found = {one.entry.number for one in self._unindexed if one.barred.isdisjoint(hit)}
        for wanted in hit:
            for one in self._pivots.get(wanted, ()):
                if one.wanted <= hit and one.barred.isdisjoint(hit):
                    found.add(one.entry.number)
        return found

    # Selectors.

    def acquire(self, selector: Selector, number: int | None = None) -> bool:
        """Use a selector once more; whether it is new. A new one gets that number, or the lowest that is free."""
        entry = self._entries.get(selector)
        if entry is not None:
            entry.uses += 1
            return False
        if number is None:
            number = heapq.heappop(self._free_numbers) if self._free_numbers else len(self._entries)
        entry = self._entries[selector] = self._by_number[number] = _Entry(selector, number)
        alternatives = []
        for conjunction in selector.alternatives:
            wanted, barred = self._index.acquire(conjunction)
            one = _Conjunction(entry, wanted, barred)
            alternatives.append(one)
            if wanted:
                self._pivots.setdefault(_pivot(wanted), set()).add(one)
            else:
                self._unindexed.add(one)
        entry.alternatives = tuple(alternatives)
        self._widen(number)
        self._write_column(entry)
        return True

    def release(self, selector: Selector) -> bool:
        """Use a selector once less; whether nobody uses it any more."""
        entry = self._entries[selector]
        entry.uses -= 1
        if entry.uses:
            return False
        del self._entries[selector], self._by_number[entry.number]
        self._met[:, entry.number >> 3] &= ~np.uint8(1 << (entry.number & 7))
        heapq.heappush(self._free_numbers, entry.number)
        for one in entry.alternatives:
            if one.wanted:
                pivot = _pivot(one.wanted)
                self._pivots[pivot].discard(one)
                if not self._pivots[pivot]:
                    del self._pivots[pivot]
            self._unindexed.discard(one)
            self._index.release(one.wanted | one.barred)
        return True

    def _write_column(self, entry: _Entry) -> None:
        members = self._members(entry.alternatives)
        at, bit = entry.number >> 3, np.uint8(1 << (entry.number & 7))
        self._met[:, at] &= ~bit
        if members:
            packed = np.frombuffer(members.to_bytes((members.bit_length() + 7) // 8, "little"), dtype=np.uint8)
            self._met[np.flatnonzero(np.unpackbits(packed, bitorder="little")), at] |= bit

    def _members(self, alternatives: Iterable[_Conjunction]) -> int:
        """Rows of who meets one of them, as a bit set."""
        found = 0
        for one in alternatives:
            rows = self._index.everybody
            for wanted in one.wanted:
                rows &= self._index.having(wanted)
            for barred in one.barred if rows else ():
                rows &= ~self._index.having(barred)
            found |= rows
        return found

    def _widen(self, number: int) -> None:
        if number >> 3 >= self._met.shape[1]:
            width = max(2 * self._met.shape[1], (number >> 3) + 1)
            wider = np.zeros((len(self._met), width), dtype=np.uint8)
            wider[:, : self._met.shape[1]] = self._met
            self._met = wider


def _pivot(wanted: frozenset[Wanted]) -> Wanted:
    """The requirement that a conjunction is looked for by: one that few identities meet, as far as its text tells."""
    return min(wanted, key=lambda one: one.breadth)
