# SPDX-License-Identifier: Apache-2.0
"""Paired ratios with an interval, and what they say of a mark. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

# Student's t, two-sided 95 %, by degrees of freedom; beyond the table the normal value is near enough.
_T95 = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
    2.12,
    2.11,
    2.10,
    2.09,
    2.09,
)


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of paired ratios and its 95 % interval."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def half_width(self) -> float:
        """Half of the interval, relative to the value."""
        return (self.high - self.low) / 2 / self.value


def paired(ours: list[float], other: list[float]) -> Ratio:
    """Ratio ours/other of rounds that were measured side by side; at least two rounds."""
    logs = [math.log(a / b) for a, b in zip(ours, other, strict=True)]
    mean = statistics.fmean(logs)
    freedom = len(logs) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else 1.98
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))


def verdict(low: float, high: float, mark: float, better: str) -> str:
    """`met` when the worse end reaches the mark, `missed` when the better end does not, else `undecided`."""
    if better == "higher":
        return "met" if low >= mark else "missed" if high < mark else "undecided"
    return "met" if high <= mark else "missed" if low > mark else "undecided"


def percentile(values: list[float], share: float) -> float:
    """Nearest-rank percentile, share in 0..1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
