# SPDX-License-Identifier: Apache-2.0
"""Rounds of load over several paths, interleaved: what is compared is measured within seconds of each other."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.report import Report
from tests.bench.stats import Ratio, paired
from tests.bench.topology import Path2

SECONDS = 0.3
MAX_ROUNDS = int(os.environ.get("BENCH_ROUNDS", "60"))
MIN_ROUNDS = 5
WITHIN = 0.02
FAMILIES = ("v4", "v6")
ONE, TWO = "one", "two"  # cores for the two ends


class Case(NamedTuple):
    """Ours against another path. `key` is the result's, without family; `mode` is what the load does."""

    key: str
    mode: str
    other: str
    mark: float
    cores: str = ONE

    @property
    def suffix(self) -> str:
        """Medians name the cores where the ratio does."""
        return f"_{self.cores}" if self.key.endswith(f"_{self.cores}") else ""


def compare(report: Report, load: Path, paths: Sequence[Path2], cases: Sequence[Case], family: str) -> None:
    """Add the ratios of the cases, and the medians behind them."""
    by_name = {path.name: path for path in paths}
    measured: dict[tuple[str, str, str], list[float]] = {}
    wanted = sorted({(c.mode, c.cores, name) for c in cases for name in ("ours", c.other)})
    with _servers(load, paths, wanted, family):
        for rounds in range(1, MAX_ROUNDS + 1):
            for mode, cores, name in wanted:
                value = _client(load, by_name[name], mode, cores, family)
                measured.setdefault((mode, cores, name), []).append(value)
            ratios = [_ratio(measured, case) for case in cases] if rounds >= MIN_ROUNDS else []
            if ratios and all(ratio.half_width <= WITHIN for ratio in ratios):
                break
    for case in cases:
        ratio = _ratio(measured, case)
        report.add(f"{case.key}_{family}", ratio.value, "ratio", mark=case.mark, interval=(ratio.low, ratio.high))
    suffixes = {(c.mode, c.cores): c.suffix for c in cases}
    for (mode, cores, name), values in sorted(measured.items()):
        unit = "bit/s" if mode == "stream" else "1/s"
        report.add(f"{mode}_{name}{suffixes[mode, cores]}_{family}", sorted(values)[len(values) // 2], unit)
    report.note(f"{family}: {rounds} rounds of {SECONDS} s")


def _ratio(measured: dict[tuple[str, str, str], list[float]], case: Case) -> Ratio:
    return paired(measured[case.mode, case.cores, "ours"], measured[case.mode, case.cores, case.other])


def _cores(cores: str) -> tuple[int, int]:
    """Return the client's and the server's."""
    return 0, 0 if cores == ONE else (os.cpu_count() or 1) - 1


def _port(mode: str, cores: str) -> str:
    """A server stays on its core, so each core has its own; streams do not wait behind transactions."""
    return str(7001 + (mode == "stream") + 2 * (cores == (ONE if mode == "stream" else TWO)))


def _address(path: Path2, family: str) -> str:
    return path.ipv4 if family == "v4" else path.ipv6


@contextlib.contextmanager
def _servers(load: Path, paths: Sequence[Path2], wanted: Sequence[tuple[str, str, str]], family: str) -> Iterator[None]:
    running = []
    places = {(_port(mode, cores), _cores(cores)[1]) for mode, cores, _ in wanted}
    try:
        for path in paths:
            for port, core in sorted(places):
                command = [str(load), path.server, str(core), "serve", _address(path, family), port]
                server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                running.append(server)
                if server.stdout is None or server.stdout.readline() != "ready\n":
                    raise RuntimeError(f"does not listen: {command}")
        yield
    finally:
        for server in running:
            server.kill()
            server.communicate()


def _client(load: Path, path: Path2, mode: str, cores: str, family: str) -> float:
    where = [path.client, str(_cores(cores)[0]), mode, _address(path, family), _port(mode, cores), str(SECONDS)]
    done = subprocess.run([str(load), *where], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{path.name} {mode} {family}: {done.stderr.strip()}")
    return float(done.stdout)
