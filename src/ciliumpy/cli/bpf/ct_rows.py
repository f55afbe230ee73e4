# SPDX-License-Identifier: Apache-2.0
"""The rows of the conntrack maps as plain values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.bpf.names import CONNTRACK_MAPS, UNANSWERED_MAPS
from ciliumpy.cli.bpf.every import maps_of
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ciliumpy.bpf.maps import Map
    from ciliumpy.client.target import Target

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
FIN, SYN, RST = 1, 2, 4  # of ct_row.seen in layout.h
TCP_BITS = {FIN: 0x01, SYN: 0x02, RST: 0x04}
ECHO = 1  # enum ct_kind
TARGETS = {0: "none", 1: "local", 2: "overlay", 3: "host", 4: "network", 5: "proxy"}  # enum ct_target
CLOCK_MONOTONIC_COARSE = 6  # not in the time module
UNIT_SHIFT = 8  # times are jiffies >> 8


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
    from ciliumpy.bpf.maps import Map

    clock = read_clock()
    found: dict[bytes, dict[str, Any]] = {}
    with Map.open_pinned(maps_of(target) / "cp_counter_v1") as counters:
        for path in pinned(target):
            with Map.open_pinned(path) as rows:
                for key, row in zip(*rows.items(), strict=True):
                    left = signed(int(row["expires"]) - clock.now)
                    if left >= 0 and key.tobytes() not in found:
                        more = {"remainingSeconds": round(left / clock.per_second, 1), "map": path.name}
                        more["answered"] = path.name not in UNANSWERED_MAPS
                        found[key.tobytes()] = entry(key, row) | counted(counters, row) | more
    return list(found.values())


def entry(key: np.void, row: np.void) -> dict[str, Any]:
    """Return what a row says, without its counters."""
    from ciliumpy.cli.bpf.decode import address

    sides = []
    for raw, number in zip(key["addr"], key["port"], strict=True):
        ip = raw.tobytes()
        port = int.from_bytes(number.tobytes(), "big")
        sides.append({"ip": address(ip if len(ip) == 16 else bytes(10) + b"\xff\xff" + ip), "port": port})
    source, destination = sides if key["kind"] == ECHO or not row["origin"] else reversed(sides)
    forward, reply = row["half"]
    seen = [int(flags) for flags in row["seen"]]
    raw_flags, names = closing(seen, tcp=int(key["protocol"]) == 6)
    return {
        "protocol": PROTOCOLS.get(int(key["protocol"]), str(key["protocol"])),
        "direction": "OUT" if forward["source_slot"] else "IN",
        "source": source,
        "destination": destination,
        "expires": int(row["expires"]),
        "created": int(row["created"]),
        "reported": [int(time) for time in row["reported"]],
        "flagsSeen": [sum(bit for own, bit in TCP_BITS.items() if flags & own) for flags in seen],
        "flags": names,
        "rawFlags": raw_flags,
        "serviceID": int(row["service_id"]),
        "sourceIdentity": int(row["src_identity"]),
        "destinationIdentity": int(row["dst_identity"]),
        "sourceEndpoint": int(forward["source_slot"]),
        "destinationEndpoint": int(forward["target_slot"]),
        "target": TARGETS.get(int(forward["target"]), "unknown"),
        "replyJudged": bool(reply["verdict"]),
    }


def closing(seen: list[int], *, tcp: bool) -> tuple[int, list[str]]:
    """Return cilium's flag word and its names for what both directions have sent, original first."""
    forward, reply = seen
    wanted = (
        (0x0001, "RxClosing", tcp and reply & (FIN | RST)),
        (0x0002, "TxClosing", tcp and forward & (FIN | RST)),
        (0x0010, "SeenNonSyn", tcp and reply & SYN),
    )
    return sum(bit for bit, _, there in wanted if there), [name for _, name, there in wanted if there]


def counted(counters: Map, row: np.void) -> dict[str, Any]:
    """Return the flow's packets and bytes, original direction first. A counter that another flow took says nothing."""
    packets, octets = [0, 0], [0, 0]
    for cpu in counters.lookup(int(row["counter"]).to_bytes(4, "little")):
        if cpu["flow"] == row["flow"]:
            for way in (0, 1):
                packets[way] += int(cpu["packets"][way])
                octets[way] += int(cpu["bytes"][way])
    return {"packets": packets, "bytes": octets}


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
