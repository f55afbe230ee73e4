# SPDX-License-Identifier: Apache-2.0
"""Selectors in the cells of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

OF_ALL_PODS = "k8s:io.cilium.k8s.policy.cluster="
# A comma that does not stand in the brackets of a list of values.
_BETWEEN = re.compile(r",(?![^(]*\))")


def selector_lines(selectors: Iterable[str], *, brief: bool = False) -> list[str]:
    """Return selectors one below the other, each further requirement and alternative in a line.

    `brief`: without requirements that all pods of a cluster meet, where there are others.
    """
    found: list[str] = []
    for selector in selectors:
        for number, alternative in enumerate(selector.split(" | ")):
            parts = _BETWEEN.split(alternative)
            telling = [part for part in parts if not part.startswith(OF_ALL_PODS)] if brief else []
            first, *others = telling or parts
            found += [f"  | {first}" if number else first, *(f"  & {each}" for each in others)]
    return found
