# SPDX-License-Identifier: Apache-2.0
"""What comes and goes while others talk: remote endpoints, ipcache changes under live flows, a hundred pods at once.

A bare endpoint is one without a device here: another node's, as its agent writes it into the store. It costs this node
a file read, a row, an address in two maps and the epoch of its bucket. One with a device costs an attach more, which
the kernel serialises at 6 to 40 ms: how many of those a second are possible is printed beside. Bystanders are two pods
of the node under load; each window of churn stands beside a quiet one. Then a minute of churn without a pause, for the
agent's loop: it tells of its last minute.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ciliumpy.endpoints.publish import KIND
from ciliumpy.net import netns
from ciliumpy.store.directory.store import DirectoryStore
from tests.bench.lab import BenchLab, bench_lab, namespace, pod, put_identities, wait_for
from tests.bench.plug import Plugs
from tests.bench.report import Report
from tests.bench.stats import paired
from tests.bench.topology import build_load

PER_SECOND = 50
WINDOW_S = 5.0
WINDOWS = int(os.environ.get("BENCH_ROUNDS", "6"))
MINUTE_S = 10.0 * WINDOWS
FLOWS = 10_000
PORTS = 100
IDENTITIES = 1000
AT_ONCE = 100
REMOTE = "172.31.255.9"


def run() -> Report:
    report = Report("churn")
    with tempfile.TemporaryDirectory(prefix="cptb") as folder, bench_lab() as lab:
        put_identities(lab, IDENTITIES)
        lab.apply(namespace(), pod("client", {"role": "client"}), pod("server", {"role": "server"}, 7001), name="pods")
        lab.apply(_node(), name="remote")
        wait_for("both pods", lambda: [p["phase"] for p in lab.pods().values()] == ["Running", "Running"])
        wait_for("all identities", lambda: lab.status()["identities"] >= IDENTITIES)
        pods = lab.pods()
        ends = [f"/proc/{pods[name]['pids'][0]}/ns/net" for name in ("client", "server")]
        target = pods["server"]["addresses"][0]
        with _flows(*ends, target) as flows, bystanders(Path(folder), *ends, target) as bystander:
            wait_for("all flows", lambda: flows.answered >= FLOWS)
            _churn(report, "endpoints", lab, bystander, _Endpoints(lab))
            _churn(report, "ipcache", lab, bystander, _Changes(lab))
            report.add("live_flows", flows.answered_lately(), "flows")
        with contextlib.closing(Plugs(lab, _empty(folder))) as plugs:
            _at_once(report, plugs)
    return report


def _empty(folder: str) -> Path:
    path = Path(folder) / "pods"
    path.mkdir()
    return path


# ---- what changes ----------------------------------------------------------------------------------------------------


def _node() -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "ip": REMOTE}, {"type": "CiliumInternalIP", "ip": "10.251.0.1"}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": "remote"},
        "spec": {"addresses": addresses, "ipam": {"podCIDRs": ["10.251.0.0/16"]}},
    }


def _endpoint(number: int, identity: int) -> dict[str, Any]:
    address = f"10.251.{1 + number // 250 % 250}.{1 + number % 250}"
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": {"name": f"remote-{number}", "namespace": "bench"},
        "status": {
            "id": 1 + number % 4000,
            "identity": {"id": 10_000 + identity % IDENTITIES, "labels": []},
            "networking": {"addressing": [{"ipv4": address}], "node": REMOTE, "nodeName": "remote"},
            "state": "ready",
        },
    }


class _Endpoints:
    """Every step a new endpoint, and the end of the one that came a second ago."""

    def __init__(self, lab: BenchLab) -> None:
        self._store, self._number = DirectoryStore(lab.store), 0

    def step(self) -> None:
        self._number += 1
        with self._store.transaction() as txn:
            txn.put(_endpoint(self._number, self._number))
            if self._number > PER_SECOND:
                txn.delete(KIND, f"remote-{self._number - PER_SECOND}", "bench")

    def wanted(self) -> dict[str, int]:
        live = range(max(1, self._number - PER_SECOND + 1), self._number + 1)
        return {_address(n): 10_000 + n % IDENTITIES for n in live}


class _Changes:
    """Every step another identity for the next of 250 addresses."""

    def __init__(self, lab: BenchLab) -> None:
        self._store, self._number = DirectoryStore(lab.store), 0

    def step(self) -> None:
        self._number += 1
        with self._store.transaction() as txn:
            txn.put(_endpoint(20_000 + self._number % 250, self._number))

    def wanted(self) -> dict[str, int]:
        live = range(max(1, self._number - 249), self._number + 1)
        return {_address(20_000 + n % 250): 10_000 + n % IDENTITIES for n in live}


def _address(number: int) -> str:
    return str(_endpoint(number, 0)["status"]["networking"]["addressing"][0]["ipv4"]) + "/32"


# ---- bystanders ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bystanders(folder: Path, client: str, server: str, target: str) -> Iterator[Callable[[], float]]:
    """Yield a function that gives the transactions a second of one window; both ends on the last core."""
    load, core = build_load(folder), str((os.cpu_count() or 1) - 1)
    serving = subprocess.Popen([load, server, core, "serve", target, "7009"], stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        serving.stdout.readline()

        def window() -> float:
            command = [load, client, core, "rr", target, "7009", str(WINDOW_S)]
            return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

        yield window
    finally:
        serving.kill()
        serving.communicate()


class _Flows:
    """Ten thousand UDP flows between two pods, each asked and answered every ten seconds."""

    def __init__(self, client: str, server: str, target: str) -> None:
        self._servers = [_socket_in(server, (target, 20_000 + n)) for n in range(PORTS)]
        self._clients = [_socket_in(client, None) for _ in range(FLOWS // PORTS)]
        self._target, self.answered, self._end = target, 0, threading.Event()
        self._at: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        """Within a node a datagram is in the receiver's queue when send returns."""
        while not self._end.is_set():
            for number in range(FLOWS):
                asking, answering = self._clients[number // PORTS], self._servers[number % PORTS]
                with contextlib.suppress(BlockingIOError):
                    asking.sendto(b"x", (self._target, 20_000 + number % PORTS))
                    data, sender = answering.recvfrom(16)
                    answering.sendto(data, sender)
                    asking.recv(16)
                    self.answered += 1
                    self._at[number] = time.monotonic()
                # As fast as can be for the first round.
                if self.answered > FLOWS and number % 10 == 0 and self._end.wait(10 * 10 / FLOWS):
                    return

    def answered_lately(self) -> int:
        """How many were answered within the last 30 s."""
        return sum(time.monotonic() - at < 30 for at in list(self._at.values()))

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        for each in (*self._servers, *self._clients):
            each.close()


@contextlib.contextmanager
def _flows(client: str, server: str, target: str) -> Iterator[_Flows]:
    flows = _Flows(client, server, target)
    try:
        yield flows
    finally:
        flows.close()


def _socket_in(namespace_path: str, at: tuple[str, int] | None) -> socket.socket:
    fd = netns.open_path(namespace_path)
    try:
        made = netns.run_in(fd, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        os.close(fd)
    made.setblocking(False)
    if at:
        made.bind(at)
    return made


# ---- measuring -------------------------------------------------------------------------------------------------------


def _churn(
    report: Report, name: str, lab: BenchLab, bystander: Callable[[], float], change: _Endpoints | _Changes
) -> None:
    """Quiet and churn in turn, a minute of churn, and how long the agent takes to the end of it."""
    quiet, busy = [], []
    for _ in range(WINDOWS):
        quiet.append(bystander())
        with ThreadPoolExecutor(1) as thread:
            measured = thread.submit(bystander)
            steps(change.step, measured.done)
            busy.append(measured.result())
    began = time.monotonic()
    done = steps(change.step, lambda: time.monotonic() - began >= MINUTE_S)
    ended = time.monotonic()
    lag, wanted = get(lab, "/v1/status")["loopLagMs"], change.wanted()
    wait_for(f"the last of {name}", lambda: _carried(lab, wanted))
    report.add(f"{name}_lag_s", time.monotonic() - ended, "s", mark=1, better="lower")
    report.add(f"{name}_per_s", done / (ended - began), "1/s", mark=PER_SECOND * 0.98)
    report.add(f"{name}_loop_lag_p99_ms", lag["p99"], "ms", mark=50, better="lower")
    report.add(f"{name}_loop_lag_max_ms", lag["max"], "ms")
    ratio = paired(busy, quiet)
    report.add(f"{name}_bystanders", ratio.value, "ratio", mark=0.9, interval=(ratio.low, ratio.high))
    report.add(f"{name}_bystanders_per_s", statistics.median(busy), "1/s")


def steps(step: Callable[[], None], ended: Callable[[], bool]) -> int:
    """Take steps at the rate until it has ended; return how many."""
    began, count = time.monotonic(), 0
    while not ended():
        step()
        count += 1
        time.sleep(max(0.0, began + count / PER_SECOND - time.monotonic()))
    return count


def _carried(lab: BenchLab, wanted: dict[str, int]) -> bool:
    """Whether the kernel has exactly these of the remote node's addresses."""
    rows = get(lab, "/v1/statedb/ipcache")["items"]
    remote = {r["row"]["prefix"]: r for r in rows if r["row"].get("node") == "remote" and r["row"].get("pod")}
    if any(prefix not in remote or remote[prefix]["row"]["identity"] != wanted[prefix] for prefix in wanted):
        return False
    return all(remote[prefix]["status"]["state"] == "done" for prefix in wanted)


def _at_once(report: Report, plugs: Plugs) -> None:
    """The plugin as a runtime starts it, a hundred at once; then as many as can be, a second."""
    took, failed = plugs.at_once([f"once-{n}" for n in range(AT_ONCE)])
    report.add("adds_at_once_s", took, "s", mark=8, better="lower")
    report.add("adds_at_once_failed", failed, "pods", mark=0, better="lower")
    before = time.monotonic()
    plugs.endpoints(AT_ONCE)
    report.add("adds_per_s", AT_ONCE / (time.monotonic() - before), "1/s")


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def get(lab: BenchLab, path: str) -> Any:
    with contextlib.closing(_Unix(lab.run / "n1" / "agent.sock")) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
