# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf frag list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.bpf.names import FRAGMENT_MAPS
from ciliumpy.cli.bpf.ct_rows import PROTOCOLS, read_clock, signed
from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show

if TYPE_CHECKING:
    from ciliumpy.client.target import Target


def flow(e: Item) -> str:
    return f"{e['protocol']} {e['source']}:{e['sourcePort']} -> {e['destination']}:{e['destinationPort']}"


COLUMNS = [
    Column("DATAGRAM", lambda e: e["id"], right=True),
    Column("FLOW", flow),
    Column("FIRST", lambda e: e["firstBytes"], right=True),
    Column("LEFT", lambda e: f"{e['remainingSeconds']:.0f}s", right=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the datagrams whose first fragment was seen: later ones are judged by its ports. Reads the kernel.

    FIRST is how many bytes of the datagram the first fragment had; of ICMP the ports are type and code.
    """
    items, errors = every(lab, node, read)
    show(
        "FragmentList",
        items,
        COLUMNS,
        output,
        name=lambda e: str(e["id"]),
        sort=lambda e: (e["source"], e["destination"], e["id"]),
        errors=errors,
        empty="No entries found.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    """Return the living rows of both families."""
    from ciliumpy.bpf import dump
    from ciliumpy.bpf.maps import Map

    clock, found = read_clock(), []
    for name in FRAGMENT_MAPS:
        with Map.open_pinned(maps_of(target) / name) as opened:
            rows = zip(*opened.items(), strict=True)
        for key, row in rows:
            left = signed(int(row["expires"]) - clock.now)
            if left < 0:
                continue
            ends = [key[side].tobytes() for side in ("saddr", "daddr")]
            addresses = [dump.address(ip if len(ip) == 16 else bytes(10) + b"\xff\xff" + ip) for ip in ends]
            found.append(
                {
                    "id": int.from_bytes(key["id"].tobytes(), "big"),
                    "protocol": PROTOCOLS.get(int(row["protocol"]), str(row["protocol"])),
                    "source": addresses[0],
                    "sourcePort": int(row["sport"]),
                    "destination": addresses[1],
                    "destinationPort": int(row["dport"]),
                    "firstBytes": int(row["end"]),
                    "remainingSeconds": round(left / clock.per_second, 1),
                }
            )
    return found
