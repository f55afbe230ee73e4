# SPDX-License-Identifier: Apache-2.0
"""Which bit a selector has, from the first set that names it until no vector has the bit any more. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ciliumpy.enforcement.encode import DoesNotFitError, TooNarrowError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ciliumpy.model.selectors import Selector

FORMER = 0  # stands for the sets of the agent before this one, which are never numbered 0


class Bits:
    """The bits of a node, and how far each is in its life.

    - taken, and given to vectors, before the first set names it;
    - held while a set names it (`hold`, `let_go`);
    - being cleared when no set does: `clear` gives the selectors that vectors must lose, `cleared` frees their bits.
    """

    def __init__(self, size: int, remembered: Mapping[Selector, int], most: int = 0) -> None:
        self.size, self.most = size, max(size, most)
        self._bit = dict(remembered)
        self._holders: dict[Selector, set[int]] = {selector: {FORMER} for selector in remembered}
        self._held: dict[int, tuple[Selector, ...]] = {FORMER: tuple(remembered)} if remembered else {}
        self._clearing: set[Selector] = set()
        taken = set(remembered.values())
        self._free = [bit for bit in range(size) if bit not in taken]

    def __len__(self) -> int:
        return len(self._bit)

    def __getitem__(self, selector: Selector) -> int:
        return self._bit[selector]

    @property
    def assigned(self) -> Mapping[Selector, int]:
        """Every selector that has a bit, those being cleared included."""
        return self._bit

    def take(self, selectors: Iterable[Selector]) -> list[Selector]:
        """See that each has a bit; those whose bit the vectors do not have. All or none.

        DoesNotFitError: there are not so many; TooNarrowError: there are, if vectors were wider.
        """
        wanted = list(dict.fromkeys(selectors))
        new = [selector for selector in wanted if selector not in self._bit]
        free = self.most - len(self._bit)
        if len(new) > free:
            raise DoesNotFitError(
                f"it needs {len(new)} more selectors, {free} of this node's {self.most} bits are free"
            )
        if len(new) > len(self._free):
            raise TooNarrowError(
                f"it needs {len(new)} more selectors, {len(self._free)} of this node's {self.size} bits are free"
            )
        for selector in new:
            self._bit[selector] = heapq.heappop(self._free)
            self._holders[selector] = set()
        again = [selector for selector in wanted if selector in self._clearing]
        self._clearing.difference_update(again)
        return new + again

    def grow(self, size: int) -> None:
        """Vectors are wider now."""
        for bit in range(self.size, size):
            heapq.heappush(self._free, bit)
        self.size = size

    def give_back(self, selectors: Iterable[Selector], clearing: Collection[Selector]) -> None:
        """Undo a `take`, before any vector got the bits. `clearing` are those that vectors are losing."""
        for selector in selectors:
            if selector in clearing:
                self._clearing.add(selector)
            else:
                del self._holders[selector]
                heapq.heappush(self._free, self._bit.pop(selector))

    def hold(self, set_id: int, selectors: Iterable[Selector]) -> None:
        """A set names these selectors; all have a bit."""
        self._held[set_id] = tuple(selectors)
        for selector in self._held[set_id]:
            self._holders[selector].add(set_id)

    def let_go(self, set_id: int) -> None:
        """The kernel has that set no longer."""
        for selector in self._held.pop(set_id, ()):
            self._holders[selector].discard(set_id)

    def clear(self) -> list[Selector]:
        """Selectors that no set names: vectors must now lose their bits, and then `cleared` be told."""
        idle = [s for s, holders in self._holders.items() if not holders and s not in self._clearing]
        self._clearing.update(idle)
        return idle

    def cleared(self, selectors: Iterable[Selector]) -> list[int]:
        """No vector in the kernel has these bits any more: free them, unless they were taken again meanwhile."""
        freed = []
        for selector in selectors:
            if selector in self._clearing:
                self._clearing.discard(selector)
                del self._holders[selector]
                freed.append(self._bit.pop(selector))
        for bit in freed:
            heapq.heappush(self._free, bit)
        return freed
