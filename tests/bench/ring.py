# SPDX-License-Identifier: Apache-2.0
"""Events from the rings into the history: how many a second, and that none is lost that is not told.

In process: rings that a BPF program has filled, drained by the agent's own reader and pipeline. Then real datagrams
from pod to pod through an agent: at a steady rate with nothing lost; with the agent stopped, so that the rings overrun;
and with the limiter of drops on. The kernel's own counts stand beside the agent's and the sender's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ciliumpy.bpf import build
from ciliumpy.bpf.btf import Btf
from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.programs import load_object
from ciliumpy.bpf.ring import RingGroup
from ciliumpy.flows.pipeline import FlowPipeline
from ciliumpy.kit.clock import SystemClock
from ciliumpy.state.database import Database
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.registry import ALL_TABLES
from tests.bench.lab import BenchLab, bench_lab, namespace, pod, policy, wait_for
from tests.bench.report import Report
from tests.bench.stats import paired

HERE = Path(__file__).parent
CPUS = os.cpu_count() or 1
ROUNDS = 60
RATE = 300_000
SECONDS = 20.0
FIRST_PORT, PORTS = 20_000, 40_000  # the lower half is allowed
FIRST_SOURCE = 1024
LIMITER_OFF = {"hubble": {"dropEventsPerSecond": 0}}


def run() -> Report:
    report = Report("ring")
    with tempfile.TemporaryDirectory() as folder:
        _in_process(report, Path(folder))
        flood = _flood(Path(folder))
        with _pods(LIMITER_OFF) as pods:
            _steady(report, flood, pods)
            _overrun(report, flood, pods)
        with _pods({}) as pods:
            _held_back(report, flood, pods)
    return report


# ---- in process ------------------------------------------------------------------------------------------------------


def _in_process(report: Report, folder: Path) -> None:
    build.compile_object(HERE / "ring.bpf.c", folder / "ring.o")
    with load_object(folder / "ring.o", ring_size=1 << 20) as loaded:
        states, fill = loaded.maps["b_state_v1"], loaded.programs["fill"]
        layout = Btf.from_object(build.OBJECTS / "datapath.o").dtype("event")
        with RingGroup(loaded.maps["b_rings_v1"], layout, states=states) as rings:
            pipeline = FlowPipeline(rings, _cluster(), SystemClock())
            holds = rings.rings[0].size // 128 - 1
            rates = []
            for number in range(ROUNDS + 5):
                for cpu in range(CPUS):
                    os.sched_setaffinity(0, {cpu})
                    fill.test_run(bytes(100), repeat=holds)
                os.sched_setaffinity(0, range(CPUS))
                took = asyncio.run(_drain(pipeline))
                if number >= 5:  # the first ones fill tables and memory
                    rates.append(CPUS * holds / took)
            made = int(states.lookup(0)["seq"].sum())
            if (rings.seen, rings.lost) != (made, 0) or pipeline.events != made:
                raise RuntimeError(f"{made} made, {rings.seen} read, {rings.lost} lost, {pipeline.events} taken")
    ratio = paired(rates, [1.0] * len(rates))
    interval = (ratio.low, ratio.high)
    report.add("ring_to_history_per_s", ratio.value, "events/s", mark=2_000_000, interval=interval)


async def _drain(pipeline: FlowPipeline) -> float:
    began = time.perf_counter()
    await pipeline.take(*pipeline.read())
    return time.perf_counter() - began


def _cluster() -> Database:
    """The pods that the records are about."""
    db = Database(ALL_TABLES)
    with db.write() as txn:
        for number in range(10, 144):
            identity = 990 + number if number < 80 else 1920 + number
            address = f"10.244.0.{number}"
            txn.upsert(ENDPOINTS, _endpoint(number, address, identity))
    return db


def _endpoint(number: int, address: str, identity: int) -> Endpoint:
    return Endpoint(
        id=number,
        generation=1,
        namespace="bench",
        pod=f"pod-{number}",
        container_id=f"c{number}",
        interface="eth0",
        host_interface=f"lxc{number:012x}",
        ifindex=number + 10,
        peer_ifindex=2,
        mac="02:00:00:00:00:01",
        host_mac="02:00:00:00:00:02",
        ipv4=address,
        ipv6="",
        labels=(f"k8s:app=pod-{number}",),
        identity=identity,
        state="ready",
    )


# ---- real packets ----------------------------------------------------------------------------------------------------


class Pods(NamedTuple):
    """A lab with two pods; the server's address is not on its device, so that nobody answers."""

    lab: BenchLab
    client: str
    address: str


class Counts(NamedTuple):
    """What a node has counted: the agent's events and losses, the kernel's attempts, losses and held-back drops."""

    events: int
    lost: int
    attempted: int
    kernel_lost: int
    held_back: int

    def since(self, before: Counts) -> Counts:
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


def _flood(folder: Path) -> Path:
    out = folder / "flood"
    subprocess.run(["cc", "-O2", "-Wall", "-o", str(out), str(HERE / "flood.c")], check=True)
    return out


@contextmanager
def _pods(agent: dict[str, object]) -> Iterator[Pods]:
    with bench_lab(**agent) as lab:
        lab.apply(namespace(), pod("client", {"role": "client"}), pod("server", {"role": "server"}), name="pods")
        half = {"port": str(FIRST_PORT), "endPort": FIRST_PORT + PORTS // 2 - 1, "protocol": "UDP"}
        rule = {"fromEndpoints": [{"matchLabels": {"role": "client"}}], "toPorts": [{"ports": [half]}]}
        lab.apply(policy("half", {"role": "server"}, ingress=[rule]), name="half")
        wait_for("both pods", lambda: [p["phase"] for p in lab.pods().values()] == ["Running", "Running"])
        wait_for("the policy", lambda: lab.status()["policy"]["policies"] == 1 and lab.status()["state"] == "ok")
        pods = lab.pods()
        server = f"/proc/{pods['server']['pids'][0]}/ns/net"
        subprocess.run(["nsenter", f"--net={server}", "ip", "addr", "flush", "dev", "eth0"], check=True)
        address = next(a for a in pods["server"]["addresses"] if ":" not in a)
        yield Pods(lab, f"/proc/{pods['client']['pids'][0]}/ns/net", address)


def _counts(lab: BenchLab) -> Counts:
    said = lab.status()["hubble"]
    with Map.open_pinned(Path(f"/sys/fs/bpf/ciliumpy/labs/{lab.name}/n1/maps/cp_evstate_v1")) as states:
        state = states.lookup(bytes(4))
    kernel = (int(state[name].sum()) for name in ("seq", "lost", "held_back"))
    return Counts(said["events"], said["lost"], *kernel)


def _settled(lab: BenchLab) -> Counts:
    """Return the counts as soon as the agent has read and counted everything that the kernel tried to tell."""
    found: list[Counts] = []

    def done() -> bool:
        found.append(_counts(lab))
        return found[-1].events + found[-1].lost >= found[-1].attempted and found[-1] == found[-2:][0]

    wait_for("the rings read to their end", done)
    return found[-1]


def _send(flood: Path, pods: Pods, rate: float, count: int, first_source: int) -> tuple[int, float]:
    """Send from all CPUs at once; return how many datagrams the kernel took, and the seconds it needed."""
    each = count // CPUS
    sources = -(-each // PORTS)
    running = []
    for cpu in range(CPUS):
        source = first_source + cpu * sources
        numbers = (cpu, pods.address, source, sources, FIRST_PORT, PORTS, rate / CPUS, each)
        command = [str(flood), pods.client, *map(str, numbers)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = [one.communicate()[0].split() for one in running]
    if any(one.returncode for one in running):
        raise RuntimeError("a sender failed")
    return sum(int(sent) for sent, _ in said), max(float(took) for _, took in said)


def _softnet_drops() -> int:
    return sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())


def _steady(report: Report, flood: Path, pods: Pods) -> None:
    before, dropped = _settled(pods.lab), _softnet_drops()
    sent, took = _send(flood, pods, RATE, int(RATE * SECONDS), FIRST_SOURCE)
    found = _settled(pods.lab).since(before)
    report.add("ring_traffic_per_s", sent / took, "events/s", mark=RATE * 0.99)
    report.add("ring_traffic_sent", sent, "packets")
    report.add("ring_traffic_seen", found.events, "events")
    report.add("ring_traffic_lost", found.lost, "events", mark=0, better="lower")
    missing = sent - found.attempted - found.held_back
    report.add("ring_traffic_unaccounted", abs(missing), "packets", mark=0, better="lower")
    report.note(f"sent {sent} in {took:.1f} s; dropped before our programs (softnet): {_softnet_drops() - dropped}")


def _overrun(report: Report, flood: Path, pods: Pods) -> None:
    """The agent stands still while three times what the rings hold comes in."""
    before = _settled(pods.lab)
    pid = int(pods.lab.status()["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        sent, _ = _send(flood, pods, 100_000, CPUS * 3 * 8192, FIRST_SOURCE + 1000)
    finally:
        os.kill(pid, signal.SIGCONT)
    found = _settled(pods.lab).since(before)
    report.add("ring_overrun_sent", sent, "packets")
    report.add("ring_overrun_seen", found.events, "events")
    report.add("ring_overrun_lost", found.lost, "events")
    wrong = abs(found.events + found.lost - sent) + abs(found.lost - found.kernel_lost)
    report.add("ring_overrun_unaccounted", wrong, "packets", mark=0, better="lower")


def _held_back(report: Report, flood: Path, pods: Pods) -> None:
    """With the limiter as it is by default: what it held back is counted and no loss."""
    before = _settled(pods.lab)
    sent, _ = _send(flood, pods, 100_000, 300_000, FIRST_SOURCE)
    found = _settled(pods.lab).since(before)
    report.add("ring_limited_sent", sent, "packets")
    report.add("ring_limited_seen", found.events, "events")
    report.add("ring_limited_held_back", found.held_back, "drops")
    wrong = abs(found.events + found.lost + found.held_back - sent)
    report.add("ring_limited_unaccounted", wrong, "packets", mark=0, better="lower")
