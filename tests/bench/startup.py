# SPDX-License-Identifier: Apache-2.0
"""How long a command takes to answer, against `python -c pass` of the same interpreter."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.bench.lab import bench_lab
from tests.bench.report import Report
from tests.bench.stats import paired

ROUNDS = 20
COMMANDS = {
    "help": ["--help"],
    "version": ["version"],
    "status": ["status"],
    "bpf_map_list": ["bpf", "map", "list"],
}

OF_A_LAB = ("status", "bpf_map_list")


def run() -> Report:
    """`status` and `bpf map list` are timed against a lab of one node."""
    report = Report("startup")
    with bench_lab() as lab:
        _measure(
            report, {name: [*a, *(["--lab", lab.name] if name in OF_A_LAB else [])] for name, a in COMMANDS.items()}
        )
    return report


def _measure(report: Report, commands: dict[str, list[str]]) -> None:
    timings: dict[str, list[float]] = {name: [] for name in ("pass", *commands)}
    for _ in range(ROUNDS + 1):
        timings["pass"].append(_time([sys.executable, "-c", "pass"]))
        for name, arguments in commands.items():
            timings[name].append(_time([sys.executable, "-m", "ciliumpy.cli", *arguments]))
    base = timings["pass"][1:]
    report.add("pass_ms", sorted(base)[len(base) // 2] * 1e3, "ms")
    for name in commands:
        ratio = paired(timings[name][1:], base)
        report.add(f"{name}_vs_pass", ratio.value, "ratio", mark=10, better="lower", interval=(ratio.low, ratio.high))


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
