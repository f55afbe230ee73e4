# SPDX-License-Identifier: Apache-2.0
"""Durations and sizes as people write and read them."""

from __future__ import annotations

import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """Return the seconds of `90s`, `1m30s`, `1.5h`, `2d`; a bare number is seconds. ValueError for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _PART.sub("", text):
        raise ValueError(f"{text!r} is not a duration like 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """Return `45s`, `3m12s`, `5h2m`, `12d3h`: the two largest parts."""
    left = int(seconds)
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (left, "s"))]
    first = next((i for i, part in enumerate(parts) if part[0] != "0"), 3)
    kept = parts[first : first + 2]
    return "".join(part for i, part in enumerate(kept) if i == 0 or part[0] != "0")


def format_bytes(count: float) -> str:
    """Return `512 B`, `1.5 KiB`, `12 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 or count == int(count) else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
