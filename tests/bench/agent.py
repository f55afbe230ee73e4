# SPDX-License-Identifier: Apache-2.0
"""The agent: how soon it is ready, what it holds in memory, how late its loop gets, how fast a policy takes effect."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ciliumpy.net import netns
from tests.bench.lab import BenchLab, bench_lab, namespace, pod, policy, put_identities, wait_for, write_whole
from tests.bench.plug import Plugs
from tests.bench.report import Report
from tests.bench.stats import percentile

STARTS = 5
ENDPOINTS = 1000
IDENTITIES = 10_000
POLICY_CHANGES = 40
ADDS = 20


def run() -> Report:
    report = Report("agent")
    with bench_lab() as lab, _folder() as folder, contextlib.closing(Plugs(lab, folder)) as plugs:
        lab.apply(namespace(), pod("client", {"role": "client"}), pod("server", {"role": "server"}), name="pods")
        wait_for("both pods", lambda: [p["phase"] for p in lab.pods().values()] == ["Running", "Running"])
        _starts(report, lab)
        _memory(report, lab, "idle")
        pods = lab.pods()
        # The endpoints to come have no processes: nobody shall start them.
        os.kill(int((lab.run / "controller.pid").read_text()), signal.SIGKILL)
        _adds(report, lab, plugs)
        plugs.endpoints(100 - 2 - ADDS)
        _policies(report, lab, pods)
        _load(report, lab, plugs)
    return report


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for bind mounts; it goes after they have gone."""
    path = Path(tempfile.mkdtemp(prefix="cptb"))
    try:
        yield path
    finally:
        path.rmdir()


def _starts(report: Report, lab: BenchLab) -> None:
    """Process start until it says that all it has to do for now is in the kernel."""
    took = []
    for _ in range(STARTS):
        lab.cli("lab", "stop", "--lab", lab.name)
        before = time.time()
        lab.cli("lab", "start", "--lab", lab.name)
        took.append(_ready_at(lab) - _born(lab, before))
    report.add("start_to_ready_s", percentile(took, 0.5), "s", mark=2, better="lower")


def _agent_pid(lab: BenchLab) -> int:
    return int(lab.status()["pid"])


def _born(lab: BenchLab, fallback: float) -> float:
    """When the agent's process began, seconds since 1970."""
    fields = Path(f"/proc/{_agent_pid(lab)}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(fallback, boot + ticks)


def _ready_at(lab: BenchLab) -> float:
    while lab.status()["state"] != "ok":
        time.sleep(0.01)
    return time.time()


def _memory(report: Report, lab: BenchLab, state: str) -> None:
    status = {}
    for line in Path(f"/proc/{_agent_pid(lab)}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        status[key] = value.split()
    mark = {"idle": 90, "loaded": 200}[state]
    report.add(f"{state}_rss_anon_mb", int(status["RssAnon"][0]) / 1024, "MB", mark=mark, better="lower")
    report.add(f"{state}_rss_shared_mb", (int(status["RssFile"][0]) + int(status["RssShmem"][0])) / 1024, "MB")


def _adds(report: Report, lab: BenchLab, plugs: Plugs) -> None:
    """The plugin as a runtime starts it, process start to end, one after another."""
    took = plugs.by_plugin([f"add-{n}" for n in range(ADDS)])
    report.add("cni_add_p50_ms", percentile(took, 0.5) * 1e3, "ms", mark=80, better="lower")
    report.add("cni_add_p99_ms", percentile(took, 0.99) * 1e3, "ms")


def _load(report: Report, lab: BenchLab, plugs: Plugs) -> None:
    """Fill up to 1,000 endpoints and 10,000 identities while the loop's lag is watched from its own measurements."""
    before = time.monotonic()
    put_identities(lab, IDENTITIES)
    wait_for("all identities", lambda: lab.status()["identities"] >= IDENTITIES)
    plugs.endpoints(ENDPOINTS - lab.status()["endpoints"]["total"])
    took = time.monotonic() - before
    status = lab.status()
    report.add("loop_lag_p99_ms", status["loopLagMs"]["p99"], "ms", mark=50, better="lower")
    report.add("loop_lag_max_ms", status["loopLagMs"]["max"], "ms")
    report.note(
        f"loaded {status['endpoints']['total']} endpoints and {status['identities']} identities in {took:.0f} s"
    )
    _memory(report, lab, "loaded")


def _policies(report: Report, lab: BenchLab, pods: dict[str, dict[str, Any]]) -> None:
    """Policy file renamed into place until a live UDP flow's next packet is judged by it; allow and deny in turn."""
    target = pods["server"]["addresses"][0]
    with socket_in(pods["server"]) as receiver, socket_in(pods["client"]) as sender:
        receiver.bind((target, 9000))
        sender.connect((target, 9000))
        took = [judged(lab, sender, receiver, allow=bool(n % 2)) for n in range(POLICY_CHANGES)]
    for key, share, mark in (("p50", 0.5, 20), ("p99", 0.99, 100)):
        report.add(f"policy_to_packet_{key}_ms", percentile(took, share) * 1e3, "ms", mark=mark, better="lower")


def judged(lab: BenchLab, sender: socket.socket, receiver: socket.socket, *, allow: bool) -> float:
    peer = {"role": "client" if allow else "nobody"}
    rule = policy("toggle", {"role": "server"}, ingress=[{"fromEndpoints": [{"matchLabels": peer}]}])
    start = time.perf_counter()
    write_whole(lab.store / "toggle.yaml", [rule])
    while _passes(sender, receiver) != allow:
        if time.perf_counter() - start > 10:
            raise TimeoutError("the policy took no effect within 10 s")
    return time.perf_counter() - start


def _passes(sender: socket.socket, receiver: socket.socket) -> bool:
    """Within a node a datagram is in the receiver's queue when send returns, or it was dropped."""
    with contextlib.suppress(OSError):
        sender.send(b"x")
    passed = False
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(16):
            passed = True
    return passed


def socket_in(described: dict[str, Any]) -> socket.socket:
    """Make a non-blocking UDP socket in a pod's namespace."""
    fd = netns.open_path(f"/proc/{described['pids'][0]}/ns/net")
    try:
        made = netns.run_in(fd, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        os.close(fd)
    made.setblocking(False)
    return made
