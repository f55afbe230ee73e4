# SPDX-License-Identifier: Apache-2.0
"""Numbers of identities that mean something on this node only: by label set, upwards. Pure.

A scope has 16,777,215 of them. One that is given up is not given again before all others have been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Labels = tuple[str, ...]
SCOPE_BITS = 24
LAST = (1 << SCOPE_BITS) - 1


class Numbers:
    """The numbers of one scope. `following` is the one that is tried next."""

    def __init__(self, scope: int, kept: Mapping[Labels, int] | None = None, following: int = 0) -> None:
        self._first = (scope << SCOPE_BITS) + 1
        self._last = (scope << SCOPE_BITS) + LAST
        self._numbers = dict(kept or {})
        self._taken = set(self._numbers.values())
        self.following = following if self._first <= following <= self._last else self._first

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._taken

    def items(self) -> Iterator[tuple[Labels, int]]:
        yield from self._numbers.items()

    def get(self, labels: Labels) -> int:
        """Return the number of a label set; 0: it has none."""
        return self._numbers.get(labels, 0)

    def take(self, labels: Labels) -> int:
        """Return the number of a label set, a new one if it has none. CiliumpyError: all are taken."""
        number = self._numbers.get(labels)
        if number is not None:
            return number
        if len(self._taken) >= LAST:
            raise CiliumpyError(f"all {LAST} numbers for identities of this node are taken", "name fewer prefixes")
        while self.following in self._taken:
            self._step()
        number = self._numbers[labels] = self.following
        self._taken.add(number)
        self._step()
        return number

    def release(self, labels: Labels) -> None:
        self._taken.discard(self._numbers.pop(labels, 0))

    def skip(self, number: int) -> None:
        """Go on after this number, which somebody else may have given."""
        if self._first <= number <= self._last:
            self.following = number
            self._step()

    def _step(self) -> None:
        self.following = self.following + 1 if self.following < self._last else self._first
