# SPDX-License-Identifier: Apache-2.0
"""Event rings, read as numpy spans: one system call a ring for its whole life, none to read.

A ring is mapped once: the consumer's page for writing, the producer's page and the data (mapped twice in a row by the
kernel, so that no record wraps) for reading. Every record is 128 bytes: 8 of the ring's header, 120 of struct event.
A read takes the records up to the first that is BUSY, in this order: producer's position, headers, data (copied), and
only then the consumer's position moves. That order holds on x86, where loads and stores of one CPU stay in order; no
Python can ask for more on other machines, so there it is refused.

Losses are counted from the records' numbers, which each CPU counts up also for a record it found no room for: lost is
what was counted and not seen. Behind the last record the CPU's own count tells. A program that discards a reserved
record must not have numbered it. Where reading stopped, and each CPU's next number, stand in the consumer's page (the
kernel uses its first word only) and so outlive the reader: the next one resumes exactly there, also after a kill
between any two stores.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ciliumpy.bpf.sys import MapType
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from ciliumpy.bpf.maps import Map

Array = np.ndarray[Any, np.dtype[Any]]

RECORD = 128
HEADER = 8
BUSY, DISCARD = 1 << 31, 1 << 30
_PAGE = mmap.PAGESIZE
_SLOT_WORDS = (_PAGE - 8) // 2 // 8  # of u64: the position, then a word (cpu + 1, its next number) each
_INVALID = (1 << 64) - 1
QUIET = 2  # calls without a record, after which none is on its way any more


class Loss(NamedTuple):
    """`lost` records of a CPU are missing before its record `seq`, which was made at `ktime` (ns, CLOCK_MONOTONIC)."""

    cpu: int
    seq: int
    lost: int
    ktime: int


class Ring:
    """One ring. It owns the map."""

    def __init__(self, ring: Map, index: int) -> None:
        if ring.type != MapType.RINGBUF:
            raise CiliumpyError(f"map {ring.name} is no ring buffer but a {MapType.label(ring.type)}")
        self.map, self.index, self.size = ring, index, ring.max_entries
        self._front = mmap.mmap(ring.fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._back = mmap.mmap(ring.fd, _PAGE + 2 * self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._page: Array = np.frombuffer(self._front, "u8")
        self._producer: Array = np.frombuffer(self._back, "u8", count=1)
        self._data: Array = np.frombuffer(self._back, f"V{RECORD}", offset=_PAGE)
        self._headers: Array = np.frombuffer(self._back, "u4", offset=_PAGE)[:: RECORD // 4]
        # Two slots: the one whose position is the consumer's is in force, the other is written.
        self._slots = (self._page[1 : 1 + _SLOT_WORDS], self._page[1 + _SLOT_WORDS : 1 + 2 * _SLOT_WORDS])

        self._active = 0

    @property
    def position(self) -> int:
        """Bytes read since the ring was made."""
        return int(self._page[0])

    def close(self) -> None:
        del self._page, self._producer, self._data, self._headers, self._slots
        self._front.close()
        self._back.close()
        self.map.close()

    def span(self) -> tuple[Array, int]:
        """What is complete: (records as V128, the position behind them); `release` it when it is taken."""
        position, produced = int(self._page[0]), int(self._producer[0])
        start, count = position % self.size // RECORD, (produced - position) // RECORD
        headers = self._headers[start : start + count].copy()
        if (headers == RECORD - HEADER).all():
            return self._data[start : start + count].copy(), position + count * RECORD
        busy = np.flatnonzero(headers & BUSY)
        if len(busy):
            headers = headers[: busy[0]]
        foreign = np.flatnonzero((headers & ~np.uint32(DISCARD)) != RECORD - HEADER)
        if len(foreign):
            raise CiliumpyError(
                f"a record of {int(headers[foreign[0]]) & ~DISCARD} bytes in event ring {self.index}, "
                f"where all have {RECORD - HEADER}",
                hint="programs and agent are of different versions: restart the agent",
            )
        records = self._data[start : start + len(headers)].copy()
        return records[(headers & DISCARD) == 0], position + len(headers) * RECORD

    def load(self) -> dict[int, int]:
        """CPU -> its next number, as the last reader left it; empty if nobody has read."""
        for number, slot in enumerate(self._slots):
            if int(slot[0]) == int(self._page[0]):
                self._active = number
                return {int(word >> 32) - 1: int(word & 0xFFFFFFFF) for word in slot[1:].tolist() if word}
        return {}

    def release(self, position: int, upcoming: Mapping[int, int]) -> None:
        """Give the room up to `position` back; `upcoming` is each CPU's next number then."""
        self._active ^= 1
        slot = self._slots[self._active]
        words = [cpu + 1 << 32 | seq for cpu, seq in upcoming.items()][: _SLOT_WORDS - 1]
        slot[0] = _INVALID
        slot[1 : 1 + len(words)] = words
        slot[1 + len(words) :] = 0
        slot[0] = position
        self._page[0] = position
        self._slots[self._active ^ 1][0] = _INVALID  # else, if nothing was read, both would say that they are in force


class RingGroup:
    """The one reader of all rings of a map of rings. It owns the rings and the lock, not `outer`.

    `event` is the dtype of struct event. `lock` is the file whose lock makes it the only reader; its text is our pid.
    `states` holds each CPU's struct event_state: its next number tells of records lost after the last that was seen.
    `seen` and `lost` count since this reader began, and what was lost between the last reader's end and its start.
    """

    def __init__(self, outer: Map, event: np.dtype[Any], lock: Path | None = None, states: Map | None = None) -> None:
        if os.uname().machine != "x86_64":
            raise CiliumpyError(
                f"reading event rings is not supported on {os.uname().machine}", hint="run the agent on x86-64"
            )
        if event.itemsize != RECORD - HEADER:
            raise CiliumpyError(f"struct event has {event.itemsize} bytes, not {RECORD - HEADER}")
        self._lock = _lock(lock) if lock else -1
        self.rings: list[Ring] = []
        try:
            for index in range(outer.max_entries):
                inner = outer.inner(index.to_bytes(4, "little"))
                if inner is not None:
                    self.rings.append(Ring(inner, index))
        except BaseException:
            self.close()
            raise
        self._record = np.dtype({"names": ["event"], "formats": [event], "offsets": [HEADER], "itemsize": RECORD})
        self._upcoming = [ring.load() for ring in self.rings]
        self._losses: list[Loss] = []
        self._states = states
        self._idle = 0  # calls in a row that found nothing
        self.seen = 0
        self.lost_by_cpu: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for ring in self.rings:
            ring.close()
        self.rings = []
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def lost(self) -> int:
        return sum(self.lost_by_cpu.values())

    @property
    def bytes(self) -> int:
        """Of all rings together."""
        return sum(ring.size for ring in self.rings)

    @property
    def filenos(self) -> tuple[int, ...]:
        """For epoll: readable when a producer forces a wake-up (a ring passed its quarter)."""
        return tuple(ring.map.fd for ring in self.rings)

    def consume(self) -> Array:
        """Everything that is complete, as one array of `event`, sorted by ktime; the rings have its room back."""
        parts = []
        for ring, upcoming in zip(self.rings, self._upcoming, strict=True):
            records, position = ring.span()
            events = records.view(self._record)["event"]
            if len(events):
                self._account(events, upcoming)
                parts.append(records)
            if position != ring.position:
                ring.release(position, upcoming)
        self._idle = 0 if parts else self._idle + 1
        if self._idle == QUIET:
            self._account_rest()
        merged = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, f"V{RECORD}")
        self.seen += len(merged)
        times = merged.view(self._record)["event"]["ktime"]
        if not (times[1:] >= times[:-1]).all():
            # Sorted as bytes: numpy copies structured rows field by field, sixty times slower.
            merged = merged[np.argsort(times, kind="stable")]
        return merged.view(self._record)["event"]

    def take_losses(self) -> list[Loss]:
        """The gaps found since the last call. Rarely a late record fills one again: the sum in `lost` knows."""
        losses, self._losses = self._losses, []
        return losses

    def _account(self, events: Array, upcoming: dict[int, int]) -> None:
        """Compare each CPU's numbers with what was due.

        An interrupt's record may stand before that of the context it interrupted though its number is higher, so
        numbers come slightly out of order; one that comes after its gap was counted takes the loss back.
        """
        cpus = events["cpu"]
        one = int(cpus[0])
        if one in upcoming and (cpus == one).all():
            wanted = np.arange(len(events), dtype="u4") + np.uint32(upcoming[one])  # modulo 2^32
            if (events["seq"] == wanted).all():  # nearly always
                upcoming[one] = (int(wanted[-1]) + 1) & 0xFFFFFFFF
                return
        for cpu in np.unique(cpus).tolist():
            chosen = cpus == cpu
            numbers = events["seq"][chosen]
            due = upcoming.get(cpu)
            if due is None:
                due = int(numbers[(numbers - numbers[0]).astype("i4").argmin()])
            ahead = np.sort((numbers - np.uint32(due)).astype("i4"))  # modulo 2^32
            late = int(np.searchsorted(ahead, 0))
            fresh = ahead[late:]
            missing = int(fresh[-1]) + 1 - len(fresh) if len(fresh) else 0
            if missing:
                self._locate(cpu, due, fresh, numbers, events["ktime"][chosen])
            if missing or late:
                self.lost_by_cpu[cpu] = max(0, self.lost_by_cpu.get(cpu, 0) + missing - late)
            upcoming[cpu] = (due + (int(fresh[-1]) + 1 if len(fresh) else 0)) & 0xFFFFFFFF

    def _account_rest(self) -> None:
        """Count what was lost and has no record after it that would show the gap. All is quiet: nobody is writing."""
        if self._states is None:
            return
        state = self._states.lookup(bytes(4))
        if state is None:
            return
        numbers = state["seq"]
        for ring, upcoming in zip(self.rings, self._upcoming, strict=True):
            found = False
            for cpu, due in upcoming.items():
                missing = (int(numbers[cpu]) - due) & 0xFFFFFFFF
                if 0 < missing < 1 << 31:
                    self._losses.append(Loss(cpu, int(numbers[cpu]), missing, time.monotonic_ns()))
                    self.lost_by_cpu[cpu] = self.lost_by_cpu.get(cpu, 0) + missing
                    upcoming[cpu] = int(numbers[cpu])
                    found = True
            if found:
                ring.release(ring.position, upcoming)

    def _locate(self, cpu: int, due: int, fresh: Array, numbers: Array, times: Array) -> None:
        steps = np.diff(fresh, prepend=-1)
        for at in np.flatnonzero(steps > 1).tolist():
            seq = (due + int(fresh[at])) & 0xFFFFFFFF
            self._losses.append(Loss(cpu, seq, int(steps[at]) - 1, int(times[np.flatnonzero(numbers == seq)[-1]])))


def _lock(path: Path) -> int:
    """The descriptor that holds the lock; it goes with the process, however that ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "another process"
        os.close(fd)
        raise CiliumpyError(
            f"the event rings have a reader already: process {holder}",
            hint="ask the agent for events: `ciliumpy monitor` without --direct",
        ) from error
    return fd
