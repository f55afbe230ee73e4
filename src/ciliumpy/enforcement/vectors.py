# SPDX-License-Identifier: Apache-2.0
"""Which bits each identity has: the selector cache seen through the bits of this node. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.policy.selector_cache import SelectorCache
from ciliumpy.tables.enforcement import SelectorVector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ciliumpy.model.selectors import Selector


class Vectors:
    """Vectors of all identities, `size` bits each. Whose row is to be written anew is returned."""

    def __init__(self, size: int, remembered: Mapping[Selector, int]) -> None:
        self._size = size
        self._cache = SelectorCache()
        self._bit: dict[Selector, int] = {}
        self._mask: dict[int, int] = {}
        self.give(remembered)

    def row(self, identity: int) -> SelectorVector | None:
        """The row of an identity; None for one that is not (any more) there."""
        mask = self._mask.get(identity)
        return None if mask is None else SelectorVector(identity, mask.to_bytes(self._size // 8, "little"))

    def set_identity(self, identity: int, labels: tuple[str, ...]) -> None:
        self._cache.set_identity(identity, labels)
        mask = 0
        for selector in self._cache.met_by(identity):
            mask |= 1 << self._bit[selector]
        self._mask[identity] = mask

    def remove_identity(self, identity: int) -> None:
        self._cache.remove_identity(identity)
        self._mask.pop(identity, None)

    def give(self, bits: Mapping[Selector, int]) -> set[int]:
        """Selectors have got bits; the identities that meet them. Those that have theirs already change nothing."""
        changed: set[int] = set()
        for selector, bit in bits.items():
            if selector in self._bit:
                continue
            self._bit[selector] = bit
            self._cache.acquire(selector)
            changed.update(self._switch(selector, on=True))
        return changed

    def clear(self, selectors: Iterable[Selector]) -> set[int]:
        """Selectors lose their bits; the identities that met them."""
        changed: set[int] = set()
        for selector in selectors:
            if selector in self._bit:
                changed.update(self._switch(selector, on=False))
                self._cache.release(selector)
                del self._bit[selector]
        return changed

    def _switch(self, selector: Selector, *, on: bool) -> Iterable[int]:
        bit = 1 << self._bit[selector]
        members = self._cache.members(selector)
        for identity in members:
            self._mask[identity] = self._mask[identity] | bit if on else self._mask[identity] & ~bit
        return members
