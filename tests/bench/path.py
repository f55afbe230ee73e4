# SPDX-License-Identifier: Apache-2.0
"""Same-node traffic through our datapath against kernel veth routing and against a bare veth pair.

Ours runs with 1,000 policies over 10,000 identities enforced. Rounds are interleaved, ours and the others within
seconds of each other, until every ratio's interval is within 2 % or there have been 60. Latency and connection rate
have both ends on one core, streams one core each.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.ours import pods_under_policy
from tests.bench.report import Report
from tests.bench.stats import paired
from tests.bench.topology import Path2, build_load, direct, routing, tune_client

SECONDS = 0.3
MAX_ROUNDS = int(os.environ.get("BENCH_ROUNDS", "60"))
MIN_ROUNDS = 5
WITHIN = 0.02
# (result key without family, load mode, other path, mark)
MARKS = (
    ("rr_vs_routing", "rr", "routing", 1.05),
    ("rr_vs_direct", "rr", "direct", 0.92),
    ("stream_vs_routing", "stream", "routing", 1.0),
    ("crr_vs_routing", "crr", "routing", 1.0),
)


def run() -> Report:
    report = Report("path")
    with tempfile.TemporaryDirectory() as folder, direct() as d, routing() as r, pods_under_policy() as ours:
        load = build_load(Path(folder))
        for path in (d, r, ours):
            tune_client(path.client)
        for family in ("v4", "v6"):
            with _servers(load, (d, r, ours), family):
                _family(report, load, {p.name: p for p in (d, r, ours)}, family)
    return report


def _family(report: Report, load: Path, paths: dict[str, Path2], family: str) -> None:
    measured: dict[tuple[str, str], list[float]] = {}
    wanted = {(mode, name) for _, mode, other, _ in MARKS for name in ("ours", other)}
    for _ in range(MAX_ROUNDS):
        for mode, name in sorted(wanted):
            measured.setdefault((mode, name), []).append(_client(load, paths[name], mode, family))
        rounds = len(measured["rr", "ours"])
        ratios = [paired(measured[m, "ours"], measured[m, o]) for _, m, o, _ in MARKS] if rounds >= MIN_ROUNDS else []
        if ratios and all(x.half_width <= WITHIN for x in ratios):
            break
    for key, mode, other, mark in MARKS:
        ratio = paired(measured[mode, "ours"], measured[mode, other])
        report.add(f"{key}_{family}", ratio.value, "ratio", mark=mark, interval=(ratio.low, ratio.high))
    for (mode, name), values in sorted(measured.items()):
        unit = "bit/s" if mode == "stream" else "1/s"
        report.add(f"{mode}_{name}_{family}", sorted(values)[len(values) // 2], unit)
    report.note(f"{family}: {rounds} rounds of {SECONDS} s")


def _cores(mode: str) -> tuple[str, str]:
    last = str((os.cpu_count() or 1) - 1)
    return ("0", last) if mode == "stream" else ("0", "0")


def _port(mode: str) -> str:
    return "7002" if mode == "stream" else "7001"


def _address(path: Path2, family: str) -> str:
    return path.ipv4 if family == "v4" else path.ipv6


@contextlib.contextmanager
def _servers(load: Path, paths: tuple[Path2, ...], family: str) -> Iterator[None]:
    running = []
    try:
        for path in paths:
            for mode in ("rr", "stream"):
                command = [str(load), path.server, _cores(mode)[1], "serve", _address(path, family), _port(mode)]
                server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                running.append(server)
                if server.stdout is None or server.stdout.readline() != "ready\n":
                    raise RuntimeError(f"does not listen: {command}")
        yield
    finally:
        for server in running:
            server.kill()
            server.communicate()


def _client(load: Path, path: Path2, mode: str, family: str) -> float:
    command = [str(load), path.client, _cores(mode)[0], mode, _address(path, family), _port(mode), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{path.name} {mode} {family}: {done.stderr.strip()}")
    return float(done.stdout)
