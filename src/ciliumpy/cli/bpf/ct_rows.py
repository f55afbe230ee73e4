# SPDX-License-Identifier: Apache-2.0
"""The rows of the conntrack maps as plain values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.bpf.names import CONNTRACK_MAPS, UNANSWERED_MAPS
from ciliumpy.cli.bpf.every import maps_of
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from ciliumpy.bpf.maps import Map
    from ciliumpy.client.target import Target

    Rows = np.ndarray[Any, np.dtype[Any]]

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
FIN, SYN, RST = 1, 2, 4  # of ct_row.seen in layout.h
TCP_BITS = {FIN: 0x01, SYN: 0x02, RST: 0x04}
ECHO = 1  # enum ct_kind
TARGETS = {0: "none", 1: "local", 2: "overlay", 3: "host", 4: "network", 5: "proxy"}  # enum ct_target
CLOCK_MONOTONIC_COARSE = 6  # not in the time module
UNIT_SHIFT = 8  # times are jiffies >> 8
FEW = 256  # flows whose counters are asked for one by one
SCALARS = {  # fields of ct_row that are shown as they are
    "expires": "expires",
    "created": "created",
    "service_id": "serviceID",
    "src_identity": "sourceIdentity",
    "dst_identity": "destinationIdentity",
}


class Clock(NamedTuple):
    """The datapath's time: now in its units, and how many of them make a second."""

    now: int
    per_second: float


def pinned(target: Target) -> list[Path]:
    """Return where the node's conntrack maps are; CiliumpyError if there are none."""
    folder = maps_of(target)
    found = [folder / name for name in CONNTRACK_MAPS if (folder / name).exists()]
    if not found:
        raise CiliumpyError(f"no conntrack map is pinned in {folder}", "an agent of another version may have made them")
    return found


def read(target: Target) -> list[dict[str, Any]]:
    """Return the living rows of all conntrack maps. A flow on its way from one map to another is in both: once."""
    import numpy as np

    from ciliumpy.bpf.maps import Map

    clock = read_clock()
    found: dict[bytes, dict[str, Any]] = {}
    with Map.open_pinned(maps_of(target) / "cp_counter_v3") as counters:
        for path in pinned(target):
            with Map.open_pinned(path) as rows:
                keys, values = rows.items()
            left = (values["expires"] - np.uint32(clock.now)).view(np.int32)
            keys, values, left = keys[left >= 0], values[left >= 0], left[left >= 0]
            sums = counted(counters, values)
            more = {"map": path.name, "answered": path.name not in UNANSWERED_MAPS}
            for key, item, sum_, units in zip(raw(keys), entries(keys, values), sums, left.tolist(), strict=True):
                seconds = {"remainingSeconds": round(units / clock.per_second, 1)}
                found.setdefault(key, item | sum_ | seconds | more)
    return list(found.values())


def raw(keys: Rows) -> list[bytes]:
    """Return each key as the kernel has it."""
    size, data = keys.dtype.itemsize, keys.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


def entries(keys: Rows, rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield what each row says, without its counters. By columns: a full map has half a million rows."""
    columns = (
        keys["protocol"].tolist(),
        keys["kind"].tolist(),
        list(pairs(addresses(keys["addr"]))),
        keys["port"].byteswap().tolist(),
        rows["origin"].tolist(),
        rows["seen"].tolist(),
        rows["reported"].tolist(),
        rows["half"]["source_slot"].tolist(),
        rows["half"]["target_slot"].tolist(),
        rows["half"]["target"].tolist(),
        rows["half"]["verdict"].tolist(),
        *(rows[name].tolist() for name in SCALARS),
    )
    for protocol, kind, ips, ports, origin, seen, reported, source, to, target, verdict, *scalars in zip(
        *columns, strict=True
    ):
        sides = [{"ip": ip, "port": port} for ip, port in zip(ips, ports, strict=True)]
        first, second = sides if kind == ECHO or not origin else reversed(sides)
        raw_flags, names = closing(seen, tcp=protocol == 6)
        yield {
            "protocol": PROTOCOLS.get(protocol, str(protocol)),
            "direction": "OUT" if source[0] else "IN",
            "source": first,
            "destination": second,
            "reported": reported,
            "flagsSeen": [sum(bit for own, bit in TCP_BITS.items() if flags & own) for flags in seen],
            "flags": names,
            "rawFlags": raw_flags,
            "sourceEndpoint": source[0],
            "destinationEndpoint": to[0],
            "target": TARGETS.get(target[0], "unknown"),
            "replyJudged": bool(verdict[1]),
            **dict(zip(SCALARS.values(), scalars, strict=True)),
        }


def addresses(column: Rows) -> Iterator[str]:
    """Yield the texts of a column of addresses, of 4 or 16 bytes each, in network order."""
    import numpy as np

    from ciliumpy.cli.bpf.decode import address

    texts: dict[bytes, str] = {}
    size = column[:1, :1].nbytes or 1
    data = np.ascontiguousarray(column).tobytes()
    for at in range(0, len(data), size):
        ip = data[at : at + size]
        if ip not in texts:
            texts[ip] = address(ip if size == 16 else bytes(10) + b"\xff\xff" + ip)
        yield texts[ip]


def pairs(texts: Iterator[str]) -> Iterator[tuple[str, str]]:
    return zip(texts, texts, strict=True)


def closing(seen: list[int], *, tcp: bool) -> tuple[int, list[str]]:
    """Return cilium's flag word and its names for what both directions have sent, original first."""
    forward, reply = seen
    wanted = (
        (0x0001, "RxClosing", tcp and reply & (FIN | RST)),
        (0x0002, "TxClosing", tcp and forward & (FIN | RST)),
        (0x0010, "SeenNonSyn", tcp and reply & SYN),
    )
    return sum(bit for bit, _, there in wanted if there), [name for _, name, there in wanted if there]


def counted(counters: Map, rows: Rows) -> list[dict[str, list[int]]]:
    """Return each flow's packets and bytes, original direction first; a counter that another took says nothing."""
    import numpy as np

    if len(rows) > FEW:
        keys, values = counters.items()
        cpus = values[np.argsort(keys)][rows["counter"]]
    else:
        found = [counters.lookup(int(number).to_bytes(4, "little")) for number in rows["counter"]]
        cpus = np.array(found).reshape(len(found), counters.cpus) if found else np.zeros((0, 1), counters.value_dtype)
    own = (cpus["flow"] == rows["flow"][:, None])[..., None]
    packets, octets = ((cpus[name].astype(np.uint64) * own).sum(axis=1).tolist() for name in ("packets", "bytes"))
    return [{"packets": p, "bytes": b} for p, b in zip(packets, octets, strict=True)]


def signed(difference: int) -> int:
    """Return a difference of two 32-bit clocks that wrap."""
    return (difference + 0x80000000) % 0x100000000 - 0x80000000


def read_clock() -> Clock:
    """Return the kernel's tick counter without asking it.

    It starts five minutes before it overflows 32 bits (INITIAL_JIFFIES) and follows CLOCK_MONOTONIC; the coarse clock's
    resolution is one tick.
    """
    hz = round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))
    jiffies = (1 << 32) - 300 * hz + int(time.clock_gettime(time.CLOCK_MONOTONIC) * hz)
    return Clock(jiffies >> UNIT_SHIFT & 0xFFFFFFFF, hz / (1 << UNIT_SHIFT))
