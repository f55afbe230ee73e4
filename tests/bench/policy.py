# SPDX-License-Identifier: Apache-2.0
"""Policy at scale: the engine by itself, then a real agent with 1,000 policies over 10,000 identities, 100 endpoints.

`policy_load` makes the objects, in two shapes. The engine's clock starts at decoded objects. The agent's starts when a
file is renamed into the store, so that reading and decoding it are in it; it ends in the kernel's own map, or with the
first packet that is judged otherwise.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.names import WIDTHS
from ciliumpy.store.directory.store import DirectoryStore
from tests.bench import policy_load as load
from tests.bench.agent import POLICY_CHANGES, judged, socket_in
from tests.bench.churn import MINUTE_S, PER_SECOND, WINDOWS, bystanders, get, steps
from tests.bench.lab import BenchLab, bench_lab, namespace, pod, wait_for
from tests.bench.plug import Plugs
from tests.bench.report import Report
from tests.bench.stats import paired, percentile

POLICIES, IDENTITIES, ENDPOINTS = 1000, 10_000, 100
MANY, KNOWN = 100_000, 65_000
FIRST = 20_000  # identity of the load
MORE = 40_000  # identities that come one by one
ADDED = 50
MARKS = {"selective": 1.0, "broad": 3.0}


def run() -> Report:
    report = Report("policy")
    _engine(report)
    with tempfile.TemporaryDirectory(prefix="cptb") as folder, bench_lab() as lab:
        _fill(lab)
        with contextlib.closing(Plugs(lab, _empty(folder, "pods"))) as plugs:
            _plug(lab, plugs)
            for shape in load.SHAPES:
                _agent(report, lab, shape, Path(folder))
    return report


# ---- the engine by itself --------------------------------------------------------------------------------------------


def _engine(report: Report) -> None:
    for shape, mark in MARKS.items():
        found = _alone(shape, POLICIES)
        report.add(f"compile_{shape}_s", found["compile_s"], "s", mark=mark, better="lower")
        report.add(f"decode_{shape}_s", found["decode_s"], "s")
        _rows(report, f"{POLICIES} {shape} policies", found)
    found = _alone("selective", MANY)
    report.add("compile_many_s", found["compile_s"], "s", mark=60, better="lower")
    report.add("decode_many_s", found["decode_s"], "s")
    report.add("compile_many_rss_mb", found["rss_mb"], "MB", mark=1024, better="lower")
    _rows(report, f"{MANY} selective policies", found)
    found = _alone("known", KNOWN)
    report.add("identities_known_rss_mb", found["rss_mb"], "MB", mark=400, better="lower")
    report.add("identities_known_s", found["known_s"], "s")


def _alone(*what: str | int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.policy_engine", *map(str, what)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _rows(report: Report, what: str, found: dict[str, float]) -> None:
    counts = ", ".join(f"{found[name]:.0f} {name}" for name in ("selectors", "classes", "ports", "vectors"))
    report.note(f"tests/bench/policy_load.py: {what} over {IDENTITIES} identities, {ENDPOINTS} endpoints: {counts}")


# ---- an agent --------------------------------------------------------------------------------------------------------


def _empty(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


def _fill(lab: BenchLab) -> None:
    spaces = [namespace() | {"metadata": {"name": load.namespace(number)}} for number in range(load.NAMESPACES)]
    lab.apply(namespace(), *spaces, name="namespaces")
    lab.apply(pod("client", {"role": "client"}), pod("server", {"role": "server"}, 7001), name="pods")
    wait_for("both pods", lambda: [p["phase"] for p in lab.pods().values()] == ["Running", "Running"])
    rows = [_identity(FIRST + at, load.labels_of(at)) for at in range(IDENTITIES)]
    for start in range(0, IDENTITIES, 1000):
        lab.apply(*rows[start : start + 1000], name=f"identities-{start}")
    wait_for("all identities", lambda: lab.status()["identities"] >= IDENTITIES)


def _identity(number: int, labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumIdentity",
        "metadata": {"name": str(number)},
        "security-labels": {key: value for key, _, value in (text.partition("=") for text in labels)},
    }


def _plug(lab: BenchLab, plugs: Plugs) -> None:
    """Pods of other apps each; two are there already."""
    step = IDENTITIES // ENDPOINTS
    for at in range(ENDPOINTS - 2):
        app = at * step // load.APP
        plugs.endpoints(1, labels=lambda _, at=at: load.own_labels(at * step), space=load.namespace(app))
    wait_for("all endpoints", lambda: lab.status()["endpoints"]["total"] >= ENDPOINTS)


def _agent(report: Report, lab: BenchLab, shape: str, folder: Path) -> None:
    documents = load.documents(POLICIES, shape, IDENTITIES)
    kind = documents[0]["kind"]
    for start in range(0, POLICIES, 250):
        lab.apply(*documents[start : start + 250], name=f"policies-{start}")
    began = time.monotonic()
    wait_for(f"{POLICIES} {shape} policies", lambda: _in_force(lab, kind), timeout_s=300)
    report.add(f"{shape}_all_in_force_s", time.monotonic() - began, "s")
    pods = lab.pods()
    target = pods["server"]["addresses"][0]
    with socket_in(pods["server"]) as receiver, socket_in(pods["client"]) as sender:
        receiver.bind((target, 9000))
        sender.connect((target, 9000))
        took = [judged(lab, sender, receiver, allow=bool(n % 2)) for n in range(POLICY_CHANGES)]
    report.add(f"{shape}_policy_p50_ms", percentile(took, 0.5) * 1e3, "ms", mark=20, better="lower")
    report.add(f"{shape}_policy_p99_ms", percentile(took, 0.99) * 1e3, "ms", mark=100, better="lower")
    (lab.store / "toggle.yaml").unlink()
    wait_for("the last policy is gone", lambda: _in_force(lab, kind))
    change = _Identities(lab)
    with _vectors(lab) as vectors:
        took = [change.timed(vectors) for _ in range(ADDED)]
    report.add(f"{shape}_identity_p50_ms", percentile(took, 0.5) * 1e3, "ms", mark=5, better="lower")
    report.add(f"{shape}_identity_p99_ms", percentile(took, 0.99) * 1e3, "ms")
    ends = [f"/proc/{pods[name]['pids'][0]}/ns/net" for name in ("client", "server")]
    with bystanders(_empty(str(folder), shape), *ends, target) as window:
        _churn(report, lab, shape, change, window)


def _in_force(lab: BenchLab, kind: str) -> bool:
    """Whether the shape's policies are there, those of the one before are gone, and all are in force."""
    rows = get(lab, "/v1/statedb/policies")["items"]
    return [row["row"]["kind"] for row in rows] == [kind] * POLICIES and all(
        row.get("status", {}).get("state") == "done" for row in rows
    )


@contextlib.contextmanager
def _vectors(lab: BenchLab) -> Iterator[Map]:
    """The map of vectors that the agent writes to."""
    folder = Path(f"/sys/fs/bpf/ciliumpy/labs/{lab.name}/n1")
    path = next(found for width in reversed(WIDTHS) for found in folder.rglob(width.vectors))
    with contextlib.closing(Map.open_pinned(path)) as found:
        yield found


class _Identities:
    """Every step a new identity of some app, and the end of the one that came a second ago."""

    def __init__(self, lab: BenchLab) -> None:
        self._store, self._number = DirectoryStore(lab.store), 0
        self.lab = lab

    def step(self) -> None:
        self._number += 1
        labels = (*load.labels_of(self._number * 7 % IDENTITIES), f"k8s:one={self._number}")
        with self._store.transaction() as txn:
            txn.put(_identity(MORE + self._number % 25_000, labels))
            if self._number > PER_SECOND:
                txn.delete("CiliumIdentity", str(MORE + (self._number - PER_SECOND) % 25_000))

    def timed(self, vectors: Map) -> float:
        """Seconds from before the object is written until the kernel has its vector."""
        began = time.perf_counter()
        self.step()
        key = (MORE + self._number % 25_000).to_bytes(4, "little")
        while vectors.lookup_bytes(key) is None:
            if time.perf_counter() - began > 10:
                raise TimeoutError("an identity has no vector after 10 s")
        return time.perf_counter() - began

    def carried(self) -> bool:
        """Whether the kernel has the last of them, and no longer the one before the last second."""
        items = get(self.lab, "/v1/statedb/vectors")["items"]
        rows = {row["row"]["identity"]: row.get("status", {}).get("state") for row in items}
        live = range(max(1, self._number - PER_SECOND + 1), self._number + 1)
        gone = MORE + max(0, self._number - PER_SECOND) % 25_000
        return gone not in rows and all(rows.get(MORE + n % 25_000) == "done" for n in live)


def _churn(report: Report, lab: BenchLab, shape: str, change: _Identities, window: Any) -> None:
    """Quiet and churn in turn, a minute of churn, and how long the agent takes to the end of it."""
    quiet, busy = [], []
    for _ in range(WINDOWS):
        quiet.append(window())
        busy.append(steps_beside(change, window))
    began = time.monotonic()
    done = steps(change.step, lambda: time.monotonic() - began >= MINUTE_S)
    ended = time.monotonic()
    lag = get(lab, "/v1/status")["loopLagMs"]
    wait_for("the last identities", change.carried)
    report.add(f"{shape}_changes_per_s", done / (ended - began), "1/s", mark=PER_SECOND * 0.98)
    report.add(f"{shape}_changes_lag_s", time.monotonic() - ended, "s", mark=1, better="lower")
    report.add(f"{shape}_loop_lag_p99_ms", lag["p99"], "ms", mark=50, better="lower")
    ratio = paired(busy, quiet)
    report.add(f"{shape}_bystanders", ratio.value, "ratio", mark=0.9, interval=(ratio.low, ratio.high))
    report.add(f"{shape}_bystanders_per_s", statistics.median(busy), "1/s")


def steps_beside(change: _Identities, window: Any) -> float:
    """The bystanders' rate while identities change."""
    with ThreadPoolExecutor(1) as thread:
        measured = thread.submit(window)
        steps(change.step, measured.done)
        return float(measured.result())
