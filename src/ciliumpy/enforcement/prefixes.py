# SPDX-License-Identifier: Apache-2.0
"""Which prefixes must have identities, because somebody names them. Pure.

A prefix is kept while a policy, a CIDR group, or a selector with a bit names it: until no set in the kernel does. An
exception that went before the set that makes it would be open for a moment.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ciliumpy.policy.prefixes import in_selector

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from ciliumpy.model.selectors import Selector


class Prefixes:
    """Counts who needs a prefix."""

    def __init__(self) -> None:
        self._of: dict[Hashable, frozenset[str]] = {}
        self._users: Counter[str] = Counter()
        self._touched: set[str] = set()

    def of(self, owner: Hashable) -> frozenset[str]:
        return self._of.get(owner, frozenset())

    def need(self, owner: Hashable, prefixes: Iterable[str]) -> None:
        """These, canonical, are all that the owner needs from now on."""
        before, now = self.of(owner), frozenset(prefixes)
        if before == now:
            return
        self._users.update(now - before)
        self._users.subtract(before - now)
        self._touched |= before ^ now
        self._of.pop(owner, None)
        if now:
            self._of[owner] = now

    def need_bits(self, selectors: Iterable[Selector]) -> None:
        """These selectors have bits."""
        for selector in selectors:
            self.need(selector, in_selector(selector))

    def changes(self) -> dict[str, bool]:
        """Prefixes that somebody needs, or nobody any more, and that may have been otherwise at the last call."""
        found = {prefix: self._users[prefix] > 0 for prefix in self._touched}
        for prefix, wanted in found.items():
            if not wanted:
                del self._users[prefix]
        self._touched.clear()
        return found
