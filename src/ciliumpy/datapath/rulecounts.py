# SPDX-License-Identifier: Apache-2.0
"""Where the kernel counts what each rule decides: which places are in use, and where a rule's count begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.bpf.names import NARROW, WIDE
from ciliumpy.bpf.rulestats import BASES, COUNTERS, STATS, totals
from ciliumpy.datapath import encode

if TYPE_CHECKING:
    from collections.abc import Collection

    from ciliumpy.datapath.kernel import KernelMaps


class RuleCounts:
    """`cp_rulestat_v2` and `cp_rulebase_v2`. Nothing is ever set back: the kernel adds to it meanwhile."""

    def __init__(self, maps: KernelMaps) -> None:
        self._maps = maps
        self.size = maps[STATS].max_entries

    def used(self) -> set[int]:
        """Return the places that sets in the kernel name."""
        found: set[int] = set()
        for name in (NARROW.classes, WIDE.classes):
            if name in self._maps:
                _, classes = self._maps[name].items()
                found.update(np.unique(classes["level"]["stat"]).tolist())
        _, sets = self._maps["cp_set_v2"].items()
        found.update(np.unique(sets["denied_stat"]).tolist())
        return found - {0}

    def begin_anew(self, places: Collection[int]) -> None:
        """From now on these places' counts are of other rules. For a thread: all flows' counters are read."""
        sums = totals(self._maps[STATS], self._maps[COUNTERS])
        bases = self._maps[BASES]
        keys, values = bases.items()
        known = np.zeros_like(sums)
        known[keys.astype(np.intp), 0], known[keys.astype(np.intp), 1] = values["packets"], values["bytes"]
        moved = np.flatnonzero((sums != known).any(axis=1))
        for place in set(moved.tolist()).intersection(places):
            value = np.zeros((), bases.value_dtype)
            value["packets"], value["bytes"] = sums[place]
            bases.update(encode.u32(place), value.tobytes())
