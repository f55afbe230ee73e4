# SPDX-License-Identifier: Apache-2.0
"""Selectors in the cells of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A comma that does not stand in the brackets of a list of values.
_BETWEEN = re.compile(r",(?![^(]*\))")


def selector_lines(selectors: Iterable[str]) -> list[str]:
    """Return selectors one below the other, each requirement after a selector's first in a line of its own."""
    found: list[str] = []
    for selector in selectors:
        first, *others = _BETWEEN.split(selector)
        found += [first, *(f"  & {each}" for each in others)]
    return found
