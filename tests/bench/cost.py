# SPDX-License-Identifier: Apache-2.0
"""What a packet costs in our programs: replayed, and decided anew.

Twice each: by test runs of the kernel, which repeat one packet, and by the kernel's own statistics over real frames on
a real veth, where the caches are as traffic leaves them. From both the cost of an empty program is taken off, measured
in turn with ours in every round. A flow between two pods of one node is judged for both in one run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ciliumpy.bpf import build, sys
from ciliumpy.bpf.links import attach_tcx
from ciliumpy.bpf.names import NARROW, WIDE, Width
from ciliumpy.bpf.programs import Program, load_object
from tests.bench.report import Report
from tests.bpf.devices import enter, namespace
from tests.bpf.node import CONNTRACK, EGRESS, FAR_OUTER, SKB_BYTES, TUNNEL, Level, Node, address, u32
from tests.bpf.packets import SYN, TCP, UDP, tcp, udp
from tests.bpf.pool import Pool

HERE = Path(__file__).parent
LIVE, HOT = 60_000, 8
IDENTITIES, SELECTORS, ADDRESSES = 10_000, 1_000, 60_000
FIRST_PORT = 2_000
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "30"))
REPEAT = 200  # of one test run: a packet starts with a TTL of 255 and loses one each time
BURST = 20_000  # real frames a round
MARKS = {"cached_run": 100.0, "cached_stats": 250.0, "slow_run": 1500.0}
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
SIZES = dict.fromkeys([name for names in CONNTRACK.values() for name in names], 131_072)
PORT_OFFSET = {4: 14 + 20, 6: 14 + 40}
LAST_OFFSET = {4: 14 + 18, 6: 14 + 38}  # the last two bytes of the destination


class Bench(NamedTuple):
    """The namespace's devices, the compiled sender of frames, and the program that does nothing."""

    devices: dict[str, int]
    frames: Path
    empty: Program
    pool: Pool

    def node(self, width: Width = NARROW) -> Node:
        sizes = {**SIZES, "cp_counter_v3": 65536, "cp_iphost_v1": 2 * ADDRESSES}
        return Node(self.pool, build.OBJECTS / f"{width.object}.o", self.devices, sizes=sizes, cfg_counters=65536)

    def send(self, device: str, frame: bytes, *, first: int, flows: int, offset: int, seed: int = 0) -> None:
        numbers = [str(number) for number in (BURST, first, flows, seed, offset)]
        subprocess.run([str(self.frames), device, *numbers, frame.hex()], check=True)


def run() -> Report:
    report = Report("cost")
    build.build()
    with _bench() as bench, _statistics():
        for version in (4, 6):
            with contextlib.closing(bench.node()) as node:
                _cached(report, bench, node, version)
            with contextlib.closing(bench.node()) as node:
                _slow(report, bench, node, version)
            with contextlib.closing(bench.node(WIDE)) as node:
                _slow(report, bench, node, version, "slow_wide")
    report.note(f"{ROUNDS} rounds; {HOT} flows, or any of {LIVE:,} live ones; an empty program's cost is taken off")
    return report


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder, namespace() as (inside, devices), contextlib.closing(Pool()) as pool:
        build.compile_object(HERE / "empty.bpf.c", Path(folder, "empty.o"))
        frames = Path(folder, "frames")
        subprocess.run(["cc", "-O2", "-Wall", "-o", str(frames), str(HERE / "frames.c")], check=True)
        with load_object(Path(folder, "empty.o")) as nothing:
            before, cpus = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.sched_getaffinity(0)
            enter(inside)
            os.sched_setaffinity(0, {max(cpus)})
            try:
                yield Bench(devices, frames, nothing.programs["empty"], pool)
            finally:
                os.sched_setaffinity(0, cpus)
                enter(before)
                os.close(before)


@contextlib.contextmanager
def _statistics() -> Iterator[None]:
    """The kernel counts what programs take; it costs them all something."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


# ---- replayed --------------------------------------------------------------------------------------------------------


def _cached(report: Report, bench: Bench, node: Node, version: int) -> None:
    one, two, _ = node.pods
    ends = one.ip[version], two.ip[version]
    frames = [_frame(node, udp(*ends, FIRST_PORT + number, 53, ttl=255)) for number in range(LIVE)]
    ctx, back = _ctx(one.ifindex), _ctx(two.ifindex)
    program = node.object.programs["pod"]
    for number, frame in enumerate(frames):
        answer = udp(ends[1], ends[0], 53, FIRST_PORT + number)
        program.test_run(frame, ctx=ctx)
        program.test_run(node.framed(answer, two.host_mac, two.mac), ctx=back)
        if number % 100 == 0:
            node.rings.consume()
    hot = random.Random(version).sample(frames, HOT)
    _report_runs(report, f"cached_run_v{version}", MARKS["cached_run"], bench, program, hot, ctx, REPEAT)
    cold = random.Random(version + 1).sample(frames, 2000)
    _report_runs(report, f"cached_run_random_v{version}", None, bench, program, cold, ctx, 1)
    place = {"offset": PORT_OFFSET[version], "first": FIRST_PORT}
    _report_real(report, f"cached_stats_v{version}", bench, node, lambda: frames[0], place | {"flows": HOT})
    place |= {"flows": LIVE, "seed": version}
    _report_real(report, f"cached_stats_random_v{version}", bench, node, lambda: frames[0], place)
    live = sum(len(node.maps[name].items()[0]) for name in CONNTRACK[version][:1])
    if live < LIVE:
        raise RuntimeError(f"only {live} of {LIVE} flows have a row of the main map")


def _report_runs(
    report: Report,
    key: str,
    mark: float | None,
    bench: Bench,
    program: Program,
    frames: list[bytes],
    ctx: bytes,
    repeat: int,
) -> None:
    """A round: each frame once with ours and once with nothing. The figure is the median of the rounds' medians."""
    for frame in frames[:HOT]:
        program.test_run(frame, ctx=ctx, repeat=repeat)
    rounds = []
    for _ in range(ROUNDS if repeat > 1 else 3):
        ours = statistics.median(_took(program, frame, ctx, repeat) for frame in frames)
        nothing = statistics.median(_took(bench.empty, frame, ctx, repeat) for frame in frames)
        rounds.append(ours - nothing)
    _add(report, key, rounds, mark)


def _took(program: Program, frame: bytes, ctx: bytes, repeat: int) -> int:
    return program.test_run(frame, ctx=ctx, repeat=repeat).duration_ns


def _report_real(
    report: Report, key: str, bench: Bench, node: Node, make: Callable[[], bytes], place: dict[str, int]
) -> None:
    """Real frames out of the first pod's device, made anew each round; the empty program gets the same on another."""
    program = node.object.programs["pod"]
    rounds = []
    with (
        attach_tcx(program, bench.devices["lxc1"], "ingress", None),
        attach_tcx(bench.empty, bench.devices["lxc3"], "ingress", None),
    ):
        for _ in range(max(3, ROUNDS // 3)):
            frame = make()
            ours = _in_vivo(bench, program, "lxc1p", frame, place)
            rounds.append(ours - _in_vivo(bench, bench.empty, "lxc3p", frame, place))
            node.rings.consume()
    _add(report, key, rounds, next((mark for name, mark in MARKS.items() if key.startswith(f"{name}_v")), None))


def _in_vivo(bench: Bench, program: Program, device: str, frame: bytes, place: dict[str, int]) -> float:
    """Nanoseconds a run, over one burst."""
    before = sys.program_info(program.fd)
    bench.send(device, frame, **place)
    after = sys.program_info(program.fd)
    return (after.run_time_ns - before.run_time_ns) / max(1, after.run_count - before.run_count)


def _add(report: Report, key: str, rounds: list[float], mark: float | None) -> None:
    """The median of the rounds, and the interval that holds the middle half of them."""
    low, _, high = statistics.quantiles(rounds, n=4)
    report.add(key, statistics.median(rounds), "ns", mark=mark, better="lower", interval=(low, high))


# ---- decided ---------------------------------------------------------------------------------------------------------


def _slow(report: Report, bench: Bench, node: Node, version: int, name: str = "slow") -> None:
    """From an enforced pod to addresses of other nodes: SYNs, each judged again, and the first packets of new flows.

    `slow_wide` is the same with the wide programs, as many more selectors in every mask.
    """
    one = node.pods[0]
    prefix = "10.250." if version == 4 else "fd00:250::"
    _fill(node, version)
    ctx = _ctx(one.ifindex)
    program = node.object.programs["pod"]
    dice = random.Random(version)
    again = [
        _frame(node, tcp(one.ip[version], _far(prefix, number), 3000, 53, SYN, ttl=255))
        for number in dice.sample(range(ADDRESSES), HOT)
    ]
    _report_runs(report, f"{name}_run_v{version}", MARKS["slow_run"], bench, program, again, ctx, REPEAT)
    rounds = []
    for turn in range(ROUNDS):
        chosen = [
            _frame(node, udp(one.ip[version], _far(prefix, number), 3000 + turn, 53, ttl=255))
            for number in dice.sample(range(ADDRESSES), 300)
        ]
        ours = statistics.median(_took(program, frame, ctx, 1) for frame in chosen)
        nothing = statistics.median(_took(bench.empty, frame, ctx, 1) for frame in chosen)
        rounds.append(ours - nothing)
        if any(event["type"] != 1 for event in node.rings.consume()):
            raise RuntimeError("what should be a new, allowed flow is not")
    _add(report, f"{name}_new_run_v{version}", rounds, None)
    ports = itertools.count(10_000)

    def new() -> bytes:
        return _frame(node, udp(one.ip[version], _far(prefix, 0), next(ports), 53, ttl=255))

    place = {"first": 0, "flows": ADDRESSES, "offset": LAST_OFFSET[version]}
    _report_real(report, f"{name}_new_stats_v{version}", bench, node, new, place)


def _far(prefix: str, number: int) -> str:
    return f"{prefix}{number >> 8}.{number & 255}" if "." in prefix else f"{prefix}{number:x}"


def _fill(node: Node, version: int) -> None:
    """Identities that meet some of all selectors; their addresses behind the tunnel; a policy over all selectors."""
    dice = np.random.default_rng(version)
    identities = np.arange(100_000, 100_000 + IDENTITIES, dtype="u4")
    words = np.zeros((IDENTITIES, node.width.bits // 64), "u8")
    selectors = SELECTORS * node.width.bits // NARROW.bits
    for _ in range(10):
        bits = dice.integers(0, selectors, IDENTITIES)
        words[np.arange(IDENTITIES), bits // 64] |= np.uint64(1) << (bits % 64).astype("u8")
    node.maps[node.width.vectors].update_batch(identities.tobytes(), words.tobytes())
    prefix = "10.250." if version == 4 else "fd00:250::"
    keys = b"".join(address(_far(prefix, number)) for number in range(ADDRESSES))
    values = b"".join(
        u32(int(identities[number % IDENTITIES])) + u32(TUNNEL) + address(FAR_OUTER) for number in range(ADDRESSES)
    )
    node.maps["cp_iphost_v1"].update_batch(keys, values)
    levels = [Level(bits=tuple(range(selectors, selectors + 20))) for _ in range(3)]  # met by nobody
    everyone = node.port_class(*levels, Level(bits=tuple(range(selectors))))
    node.policy(node.pods[0], EGRESS, {(TCP, 53): everyone, (UDP, 53): everyone})


def _frame(node: Node, payload: bytes) -> bytes:
    one = node.pods[0]
    return node.framed(payload, one.host_mac, one.mac)


def _ctx(ifindex: int) -> bytes:
    ctx = bytearray(SKB_BYTES)
    ctx[36:44] = u32(ifindex) * 2
    return bytes(ctx)
