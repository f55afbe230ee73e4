# SPDX-License-Identifier: Apache-2.0
"""Who has which of this node's own numbers: a prefix or a node, by its labels. On disk before anybody is told.

Two owners with the same labels have the same number. One that nobody has any more is kept until it is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.identity.memory import Kept, NoMemory
from ciliumpy.identity.numbers import Labels, Numbers
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ciliumpy.identity.memory import Memory


class Holdings:
    """The numbers of one scope and their owners. `highest`: the highest number that the kernel has, if it has any."""

    def __init__(self, scope: int, memory: Memory | None = None, highest: int = 0) -> None:
        self._memory = memory or NoMemory()
        kept = self._memory.load()
        known = kept or Kept()
        self._numbers = Numbers(scope, {labels: n for n, labels in known.numbers.items()}, known.following)
        if kept is None:
            self._numbers.skip(highest)  # given by an agent of whom nothing else is known
        self._labels: dict[int, Labels] = {number: labels for labels, number in self._numbers.items()}
        self._owners: dict[str, int] = dict(known.owners)
        self._uses: dict[int, int] = {}
        for number in self._owners.values():
            self._uses[number] = self._uses.get(number, 0) + 1
        self._idle_since: dict[int, int] = {number: 0 for number in self._labels if number not in self._uses}

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> Mapping[int, Labels]:
        """All numbers that are given, also those that nobody has any more."""
        return self._labels

    @property
    def owners(self) -> Mapping[str, int]:
        return self._owners

    @property
    def idle(self) -> bool:
        """Whether there is a number that nobody has."""
        return bool(self._idle_since)

    def change(self, wanted: Mapping[str, Labels | None], now_ns: int) -> None:
        """Give these owners the numbers of their labels, or none any more.

        CiliumpyError if there is no number left, or it cannot be written down: then nothing has changed.
        """
        new: list[Labels] = []
        numbers: dict[str, int] = {}
        try:
            for owner, labels in wanted.items():
                if labels is not None:
                    if not self._numbers.get(labels):
                        self._numbers.take(labels)
                        new.append(labels)
                    numbers[owner] = self._numbers.get(labels)
            owners = {owner: n for owner, n in self._owners.items() if owner not in wanted} | numbers
            if owners != self._owners:
                self._save(owners)
        except CiliumpyError:
            for labels in new:
                self._numbers.release(labels)
            raise
        self._labels |= {self._numbers.get(labels): labels for labels in new}
        before, self._owners = {owner: self._owners.get(owner, 0) for owner in wanted}, owners
        for number in numbers.values():
            self._uses[number] = self._uses.get(number, 0) + 1
            self._idle_since.pop(number, None)
        for number in filter(None, before.values()):
            self._uses[number] -= 1
            if not self._uses[number]:
                del self._uses[number]
                self._idle_since[number] = now_ns

    def idle_before(self, time_ns: int) -> list[int]:
        """Return the numbers that nobody has had since then."""
        return [number for number, since_ns in self._idle_since.items() if since_ns <= time_ns]

    def forget(self, numbers: Iterable[int]) -> None:
        """Give numbers back that nobody has."""
        for number in numbers:
            del self._idle_since[number]
            self._numbers.release(self._labels.pop(number))
        self._save(self._owners)

    def _save(self, owners: Mapping[str, int]) -> None:
        numbers = {number: labels for labels, number in self._numbers.items()}
        try:
            self._memory.save(Kept(numbers, self._numbers.following, dict(owners)))
        except OSError as error:
            raise CiliumpyError(f"numbers of identities cannot be written down: {error.strerror}") from error
