# SPDX-License-Identifier: Apache-2.0
"""How many instructions verifiers walk: written down for each kernel, compiler and program, and compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

FILE = Path(__file__).with_name("instructions.json")
UPDATE = bool(os.environ.get("UPDATE_INSTRUCTIONS"))
NOISE = 0.03  # a kernel's update moves them a little
Counts = dict[str, dict[str, int]]  # compiler, program


def read() -> dict[str, Counts]:
    """By series of kernels."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


def write(series: str, found: Counts) -> None:
    """Put a kernel's in the place of its former ones. A compiler that is not here keeps what it had."""
    known = read()
    known[series] = known.get(series, {}) | found
    FILE.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def changes(known: Counts, found: Counts) -> str:
    """A table of what differs by more than noise; empty if nothing does."""
    rows = []
    for compiler in sorted(found):
        for program, now in sorted(found[compiler].items()):
            before = known.get(compiler, {}).get(program)
            if before is None or abs(now - before) > NOISE * before:
                part = "" if before is None else f"{100 * (now - before) / before:+.1f} %"
                rows.append(f"  {compiler:13} {program:8} {before or 0:>9,} {now:>9,} {part:>9}")
    head = f"  {'COMPILER':13} {'PROGRAM':8} {'WRITTEN':>9} {'NOW':>9} {'CHANGE':>9}"
    return "\n".join([head, *rows]) if rows else ""
