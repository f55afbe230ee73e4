# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ct list`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ciliumpy.bpf.names import CONNTRACK_MAPS
from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Item, finish, parse_format, show
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
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

Global = Annotated[str, typer.Argument(metavar="[global]", help="All flows of the node; there are no other tables.")]
Diff = Annotated[bool, typer.Option("--time-diff", "-d", help="Also print how long each entry has still to live.")]


class Clock(NamedTuple):
    """The datapath's time: now in its units, and how many of them make a second."""

    now: int
    per_second: float


def run(
    which: Global = "global", time_diff: Diff = False, lab: Lab = None, node: Node = None, output: Output = "text"
) -> None:
    """List the flows that the datapath knows, one line each. Reads the kernel, not the agent.

    OUT is a flow that a pod of this node began, IN one that came to it. Tx is the way of its first packet, Rx the way
    back. Expired entries, which are none to the datapath any more, are left out.
    """
    if which != "global":
        raise CiliumpyError(f"there is no conntrack table {which!r}", "the one there is, is called global", 2)
    form = parse_format(output)
    items, errors = every(lab, node, read)
    if form.kind not in ("text", "wide"):
        show("ConntrackList", items, [], output, name=tuple_text, sort=order, errors=errors)
        return
    for item in sorted(items, key=lambda item: (item["node"], order(item))):
        sys.stdout.write((f"{item['node']} " if errors.asked > 1 else "") + line(item, time_diff=time_diff) + "\n")
    if not items and not errors:
        sys.stderr.write("No entries found.\n")
    finish(errors)


def line(e: Item, *, time_diff: bool) -> str:
    """Return an entry as cilium-dbg prints it; what is ours alone stands at the end."""
    rest = f" (remaining: {e['remainingSeconds']:.0f} sec(s))" if time_diff else ""
    names = "".join(f"{name} " for name in e["flags"])
    return (
        f"{tuple_text(e)} expires={e['expires']}{rest} Packets={e['packets'][0] + e['packets'][1]} "
        f"Bytes={e['bytes'][0] + e['bytes'][1]} RxFlagsSeen=0x{e['flagsSeen'][1]:02x} LastRxReport={e['reported'][1]} "
        f"TxFlagsSeen=0x{e['flagsSeen'][0]:02x} LastTxReport={e['reported'][0]} "
        f"Flags=0x{e['rawFlags']:04x} [ {names}] RevNAT={e['serviceID']} SourceSecurityID={e['sourceIdentity']} "
        f"BackendID=0 DestSecurityID={e['destinationIdentity']} To={e['target']}"
    )


def tuple_text(e: Item) -> str:
    return f"{e['protocol']} {e['direction']} {_pair(e['source'])} -> {_pair(e['destination'])}"


def order(e: Item) -> tuple[str, str, int, int]:
    return e["protocol"], e["destination"]["ip"], e["destination"]["port"], e["source"]["port"]


def _pair(side: Item) -> str:
    ip = f"[{side['ip']}]" if ":" in side["ip"] else side["ip"]
    return f"{ip}:{side['port']}"


def read(target: Target) -> list[dict[str, Any]]:
    """Return the living rows of both families."""
    from ciliumpy.bpf.maps import Map

    folder = maps_of(target)
    clock = read_clock()
    found = []
    with Map.open_pinned(folder / "cp_counter_v1") as counters:
        for name in CONNTRACK_MAPS:
            with Map.open_pinned(folder / name) as rows:
                for key, row in zip(*rows.items(), strict=True):
                    left = signed(int(row["expires"]) - clock.now)
                    if left >= 0:
                        seconds = {"remainingSeconds": round(left / clock.per_second, 1)}
                        found.append(entry(key, row) | counted(counters, row) | seconds)
    return found


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
