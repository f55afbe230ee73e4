# SPDX-License-Identifier: Apache-2.0
"""Selectors in the cells of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A comma that does not stand in the brackets of a list of values.
_BETWEEN = re.compile(r",(?![^(]*\))")


def selector_lines(selectors: Iterable[str]) -> list[str]:
    """Return selectors one below the other, each further requirement and alternative in a line."""
    found: list[str] = []
    for selector in selectors:
        for number, alternative in enumerate(selector.split(" | ")):
            first, *others = _BETWEEN.split(alternative)
            found += [f"  | {first}" if number else first, *(f"  & {each}" for each in others)]
    return found
