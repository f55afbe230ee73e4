# SPDX-License-Identifier: Apache-2.0
"""Packets and bytes of policy's rules, as the datapath keeps them (bpf/c/account.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATS, BASES, COUNTERS = "cp_rulestat_v2", "cp_rulebase_v2", "cp_counter_v3"
TRIES = 8


class Rows(Protocol):
    """A map, whole."""

    def items(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]: ...


def totals(stats: Rows, counters: Rows) -> NDArray[np.uint64]:
    """Return [rule, (packets, bytes)] since the maps were made: what was added up, and what stands in flows' counters.

    A counter that is taken over between the two reads would be in neither, or in both: read until nothing moves.
    """
    before = added(stats)
    for _ in range(TRIES):
        _, live = counters.items()
        after = added(stats)
        if np.array_equal(before, after):
            break
        before = after
    sums = after.copy()
    cells = live.reshape(-1)
    for leg in (0, 1):
        rules = cells["stat"][:, leg].astype(np.intp)
        counted = (rules > 0) & (rules < len(sums))
        for column, name in enumerate(("packets", "bytes")):
            np.add.at(sums[:, column], rules[counted], cells[name][counted, 0].astype(np.uint64))
    return sums


def added(stats: Rows) -> NDArray[np.uint64]:
    """Return [rule, (packets, bytes)] over all CPUs; it wraps around where it is below zero."""
    keys, values = stats.items()
    sums = np.zeros((int(keys.max(initial=0)) + 1, 2), np.uint64)
    for column, name in enumerate(("packets", "bytes")):
        cells = values[name].reshape(len(keys), -1)
        sums[keys.astype(np.intp), column] = cells.sum(axis=1, dtype=np.uint64)
    return sums
