# SPDX-License-Identifier: Apache-2.0
"""One table and one JSON line a benchmark."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from tests.bench.stats import verdict


class Report:
    """Collects results under stable keys and prints them."""

    def __init__(self, bench: str) -> None:
        self.bench = bench
        self.results: dict[str, dict[str, object]] = {}
        self.notes: list[str] = []

    def add(
        self,
        key: str,
        value: float,
        unit: str,
        *,
        mark: float | None = None,
        better: str = "higher",
        interval: tuple[float, float] | None = None,
    ) -> None:
        """Record a figure; without a mark it is only printed, without an interval it stands for itself."""
        low, high = interval or (value, value)
        result: dict[str, object] = {"value": round(value, 4), "unit": unit}
        if interval:
            result["interval"] = [round(low, 4), round(high, 4)]
        if mark is not None:
            result |= {"mark": mark, "better": better, "verdict": verdict(low, high, mark, better)}
        self.results[key] = result

    def note(self, text: str) -> None:
        self.notes.append(text)

    def show(self) -> None:
        print(f"{self.bench}")
        rows = [("RESULT", "VALUE", "UNIT", "INTERVAL", "MARK", "VERDICT")]
        for key, r in self.results.items():
            interval = r.get("interval")
            sign = {"higher": ">=", "lower": "<="}.get(str(r.get("better")), "")
            rows.append(
                (
                    key,
                    f"{r['value']:g}",
                    str(r["unit"]),
                    f"{interval[0]:g} .. {interval[1]:g}" if isinstance(interval, list) else "",
                    f"{sign} {r['mark']:g}" if "mark" in r else "",
                    str(r.get("verdict", "")),
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        for text in self.notes:
            print(f"  {text}")
        print(json.dumps({"bench": self.bench, "machine": machine(), "results": self.results}), flush=True)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    return {"kernel": platform.release(), "cpu": cpu, "cpus": os.cpu_count(), "python": platform.python_version()}
