# SPDX-License-Identifier: Apache-2.0
"""Event rings: what is read and what is lost add up exactly, over discards, overruns, restarts and kills."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys as python
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.programs import load_object
from ciliumpy.bpf.ring import RECORD, RingGroup
from ciliumpy.bpf.sys import MapType
from ciliumpy.kit.errors import CiliumpyError

pytestmark = pytest.mark.root

SMALL = 1 << 12
HOLDS = SMALL // RECORD
DISCARD_FIRST = struct.pack("=III180x", 0, 0, 1)  # skb->mark = 1


@contextmanager
def on_cpu(cpu: int):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def loaded(sample):
    with load_object(sample, ring_size=SMALL) as collection:
        yield collection


@pytest.fixture
def group(loaded, tmp_path):
    with RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), tmp_path / "lock") as one:
        yield one


@pytest.fixture
def produce(loaded):
    """Make records on a CPU, some preceded by a discarded one."""

    def make(count: int, *, cpu: int = 0, discard: bool = False) -> None:
        with on_cpu(cpu):
            loaded.programs["produce"].test_run(bytes(100), repeat=count, ctx=DISCARD_FIRST if discard else None)

    return make


def attempted(loaded) -> int:
    return int(loaded.maps["s_state_v1"].lookup(0)["seq"].sum())


def failed(loaded) -> int:
    return int(loaded.maps["s_state_v1"].lookup(0)["lost"].sum())


def test_an_empty_ring_gives_nothing(group):
    events = group.consume()
    assert len(events) == 0
    assert "ktime" in events.dtype.names


def test_records_arrive_in_order_with_their_fields(group, produce):
    produce(10)
    events = group.consume()
    assert events["seq"].tolist() == list(range(10))
    assert set(events["length"].tolist()) == {100}
    assert (np.diff(events["ktime"].astype("i8")) >= 0).all()
    assert (group.seen, group.lost) == (10, 0)
    assert len(group.consume()) == 0


def test_a_record_may_lie_anywhere_in_the_ring_also_across_its_end(group, produce):
    for _ in range(50):
        produce(7)
        assert len(group.consume()) == 7
    assert (group.seen, group.lost) == (350, 0)


def test_discarded_records_are_skipped_and_are_no_loss(group, produce, loaded):
    for number in range(12):
        produce(3, discard=number % 2 == 0)
        assert len(group.consume()) == 3
    assert (group.seen, group.lost) == (36, 0)
    assert attempted(loaded) == 36


def test_an_overrun_is_counted_exactly_and_located(group, produce, loaded):
    produce(5)
    group.consume()
    produce(100)
    events = group.consume()
    assert len(events) < HOLDS + 1
    produce(1)
    last = group.consume()
    assert group.seen == 5 + len(events) + 1
    assert group.seen + group.lost == attempted(loaded) == 106
    assert group.lost == failed(loaded) > 0
    (loss,) = group.take_losses()
    assert (loss.cpu, loss.seq, loss.lost) == (0, 105, group.lost)
    assert loss.ktime == last["ktime"][0]
    assert group.take_losses() == []


def test_what_is_lost_behind_the_last_record_is_counted_when_all_is_quiet(loaded, produce, tmp_path):
    states = loaded.maps["s_state_v1"]
    with RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), tmp_path / "lock", states) as group:
        produce(3 * HOLDS)
        assert len(group.consume()) <= HOLDS
        assert group.lost == 0  # no later record has shown the gap
        for _ in range(3):
            assert len(group.consume()) == 0
        assert group.seen + group.lost == attempted(loaded) == 3 * HOLDS
        (loss,) = group.take_losses()
        assert (loss.cpu, loss.seq, loss.lost) == (0, 3 * HOLDS, group.lost)
        produce(5)
        assert len(group.consume()) == 5
        assert group.seen + group.lost == attempted(loaded)
        assert group.lost == failed(loaded)
    # The next reader does not count it again.
    with RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), tmp_path / "lock", states) as group:
        for _ in range(3):
            group.consume()
        assert (group.seen, group.lost) == (0, 0)


def test_rings_of_all_cpus_are_merged_by_time(group, produce):
    cpus = sorted(os.sched_getaffinity(0))
    for number in range(12):
        produce(1, cpu=cpus[number % len(cpus)])
    events = group.consume()
    assert events["cpu"].tolist() == [cpus[number % len(cpus)] for number in range(12)]


def test_everything_adds_up_while_producers_run(group, loaded, produce):
    """Producers on every CPU outrun the reader: seen + lost is what they tried."""

    def run(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread, which ends
        for number in range(60):
            loaded.programs["produce"].test_run(bytes(100), repeat=50, ctx=DISCARD_FIRST if number % 3 == 0 else None)

    workers = [threading.Thread(target=run, args=(cpu,)) for cpu in os.sched_getaffinity(0)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        group.consume()
    group.consume()
    tried = 60 * 50 * len(workers)
    for cpu in os.sched_getaffinity(0):  # a loss shows at the CPU's next record
        produce(1, cpu=cpu)
        tried += 1
    group.consume()
    assert group.seen + group.lost == attempted(loaded) == tried
    assert group.lost == failed(loaded)


def test_the_next_reader_resumes_and_counts_what_was_missed_between(loaded, produce):
    outer, event = loaded.maps["s_rings_v1"], loaded.btf.dtype("event")
    with RingGroup(outer, event) as first:
        produce(10)
        first.consume()
        produce(200)
        lost_unseen = 200 - len(first.consume())
    with RingGroup(outer, event) as second:
        produce(3)
        events = second.consume()
        assert events["seq"].tolist() == [210, 211, 212]
        assert (second.seen, second.lost) == (3, lost_unseen)


def test_a_number_that_wraps_is_no_loss(loaded, produce):
    state = loaded.maps["s_state_v1"]
    value = state.lookup(0)
    value["seq"] = 0xFFFFFFFA
    state.update(0, value)
    with RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event")) as group:
        for _ in range(4):
            produce(3)
            group.consume()
        assert (group.seen, group.lost) == (12, 0)


def test_a_late_number_takes_its_loss_back(loaded, produce):
    """An interrupt's record may overtake the one it interrupted."""
    state = loaded.maps["s_state_v1"]
    with RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event")) as group:
        for seq in (0, 2, 1, 3):
            value = state.lookup(0)
            value["seq"] = seq
            state.update(0, value)
            produce(1)
            group.consume()
        assert (group.seen, group.lost) == (4, 0)


def test_the_span_ends_at_the_first_record_that_is_being_written(loaded, group, produce):
    """A record is marked BUSY by hand in a ring of our own making: those behind it wait."""
    produce(5)
    ring = group.rings[0]
    headers = ring._headers[:5].copy()
    headers[3] |= 1 << 31
    ring._headers = np.concatenate([headers, np.zeros(HOLDS, "u4")])
    assert group.consume()["seq"].tolist() == [0, 1, 2]
    assert len(group.consume()) == 0
    ring._headers[3] &= 0x7FFFFFFF
    assert group.consume()["seq"].tolist() == [3, 4]
    assert group.lost == 0


def test_a_record_of_another_size_is_refused(loaded, group, produce):
    produce(1)
    group.rings[0]._headers = np.full(HOLDS, 64, "u4")
    with pytest.raises(CiliumpyError, match="a record of 64 bytes in event ring 0, where all have 120"):
        group.consume()


def test_a_second_reader_is_refused_and_told_who_reads(loaded, group, tmp_path):
    with pytest.raises(CiliumpyError, match=f"have a reader already: process {os.getpid()}"):
        RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), tmp_path / "lock")
    group.close()
    RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), tmp_path / "lock").close()


READER = """
import sys
from pathlib import Path
from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.ring import RingGroup
outer = Map.open_pinned(Path(sys.argv[1]) / "s_rings_v1")
event = Map.open_pinned(Path(sys.argv[1]) / "s_state_v1").btf.dtype("event")
group = RingGroup(outer, event, Path(sys.argv[2]))
print("ready", flush=True)
while True:
    for seq in group.consume()["seq"].tolist():
        print(seq)
    sys.stdout.flush()
"""


def test_a_reader_that_is_killed_leaves_a_place_to_resume_at(sample, pins, tmp_path):
    """Killed under load, twice: nothing is read twice, and only what a reader had in its hands is missing."""
    with load_object(sample, pin_dir=pins, ring_size=SMALL) as loaded, on_cpu(0):
        seen: list[int] = []
        for _ in range(2):
            with subprocess.Popen(
                [python.executable, "-c", READER, pins, tmp_path / "lock"], stdout=subprocess.PIPE, text=True
            ) as reader:
                assert reader.stdout.readline() == "ready\n"
                for _ in range(300):
                    loaded.programs["produce"].test_run(bytes(100), repeat=3)
                reader.send_signal(signal.SIGKILL)
                seen += [int(line) for line in reader.stdout.read().rpartition("\n")[0].splitlines()]
        loaded.programs["produce"].test_run(bytes(100), repeat=2 * HOLDS)
        with RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), tmp_path / "lock") as group:
            seen += group.consume()["seq"].tolist()
            loaded.programs["produce"].test_run(bytes(100))
            seen += group.consume()["seq"].tolist()
            assert seen[-1] == attempted(loaded) - 1
            assert HOLDS <= group.lost <= failed(loaded)
        assert len(seen) == len(set(seen))
        assert 0 <= attempted(loaded) - len(seen) - failed(loaded) <= 2 * HOLDS


def test_what_is_written_last_is_what_the_next_reader_has(group):
    """Also where nothing was read since, and where there is less to say than before."""
    ring = group.rings[0]
    for upcoming in ({0: 5, 1: 9}, {0: 6, 1: 9}, {0: 7, 1: 9}, {0: 8}, {}, {1: 3}):
        ring.release(ring.position, upcoming)
        assert ring.load() == upcoming


@pytest.mark.parametrize("reads", [1, 2])
def test_what_was_counted_behind_the_last_record_is_not_counted_again(loaded, produce, reads):
    rings, event, states = loaded.maps["s_rings_v1"], loaded.btf.dtype("event"), loaded.maps["s_state_v1"]
    with RingGroup(rings, event, states=states) as reader:
        for number in range(reads):
            produce(HOLDS + 9 if number == reads - 1 else 1)
            reader.consume()
        for _ in range(2):
            reader.consume()
        assert reader.lost == failed(loaded) > 0
    with RingGroup(rings, event, states=states) as reader:
        for _ in range(3):
            reader.consume()
        assert reader.lost == 0


def test_it_is_only_for_x86(loaded, monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "v", "aarch64")))
    with pytest.raises(CiliumpyError, match="not supported on aarch64"):
        RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("event"))


def test_only_rings_of_our_record_are_taken(loaded):
    with pytest.raises(CiliumpyError, match="struct event has 16 bytes, not 120"):
        RingGroup(loaded.maps["s_rings_v1"], loaded.btf.dtype("metric"))


def test_the_kernel_leaves_the_rest_of_the_consumers_page_to_us():
    """What resuming rests on: a ring's first page holds the consumer's position and nothing else of the kernel's."""
    with Map.create(MapType.RINGBUF, 0, 0, SMALL) as ring:
        page = mmap.mmap(ring.fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        assert page[:] == bytes(mmap.PAGESIZE)
        page.close()
