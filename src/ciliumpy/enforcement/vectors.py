# SPDX-License-Identifier: Apache-2.0
"""Which bits each identity has: the selector cache seen through the bits of this node. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.policy.selector_cache import SelectorCache
from ciliumpy.tables.enforcement import SelectorVector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ciliumpy.model.selectors import Selector


class Vectors:
    """Vectors of all identities, `size` bits each. Whose row is to be written anew is returned."""

    def __init__(self, size: int, remembered: Mapping[Selector, int]) -> None:
        self._size = size
        self._cache = SelectorCache()
        self._bit: dict[Selector, int] = {}
        self.give(remembered)

    def grow(self, size: int) -> None:
        """Rows written from now on are that wide; those before are no less true."""
        self._size = size

    def row(self, identity: int) -> SelectorVector | None:
        """The row of an identity; None for one that is not (any more) there."""
        return SelectorVector(identity, self._cache.row(identity, self._size)) if identity in self._cache else None

    def set_identity(self, identity: int, labels: tuple[str, ...]) -> None:
        self._cache.set_identity(identity, labels)

    def set_identities(self, labels: Mapping[int, tuple[str, ...]]) -> Iterator[None]:
        """Add or change many, in short steps; their rows are right after the last."""
        return self._cache.set_identities(labels)

    def remove_identity(self, identity: int) -> None:
        self._cache.remove_identity(identity)

    def give(self, bits: Mapping[Selector, int]) -> set[int]:
        """Selectors have got bits; the identities that meet them. Those that have theirs already change nothing."""
        changed: set[int] = set()
        for selector, bit in bits.items():
            if selector not in self._bit:
                self._bit[selector] = bit
                self._cache.acquire(selector, bit)
                changed.update(self._cache.column(bit))
        return changed

    def clear(self, selectors: Iterable[Selector]) -> set[int]:
        """Selectors lose their bits; the identities that met them."""
        changed: set[int] = set()
        for selector in selectors:
            bit = self._bit.pop(selector, None)
            if bit is not None:
                changed.update(self._cache.column(bit))
                self._cache.release(selector)
        return changed
