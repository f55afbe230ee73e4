# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ipcache list`."""

from __future__ import annotations

import ipaddress
from typing import Any

from ciliumpy.cli.bpf.decode import address, flags
from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, Problems, show
from ciliumpy.client.target import Target

FLAGS = {1: "hastunnel", 2: "host", 4: "node"}  # enum ipcache_flags of layout.h
V4_BITS = 96  # of the 128 that stand before a mapped IPv4 address


def value(e: Item) -> str:
    behind = e["tunnel"] or "0.0.0.0"  # noqa: S104 - as it has always been printed
    return f"identity={e['identity']} encryptkey=0 tunnelendpoint={behind} flags={','.join(e['flags']) or '<none>'}"


COLUMNS = [Column("IP PREFIX/ADDRESS", lambda e: e["prefix"]), Column("IDENTITY", value)]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List which identity each address has, and the node it is behind. Reads the kernel, not the agent."""
    items, errors = every(lab, node, read)
    show_entries(items, errors, output)


def show_entries(items: list[dict[str, Any]], errors: Problems, output: str) -> None:
    show(
        "IPCacheList",
        items,
        COLUMNS,
        output,
        name=lambda e: str(e["prefix"]),
        sort=lambda e: order(e["prefix"]),
        errors=errors,
        empty="No entries found.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    from ciliumpy.bpf.maps import Map

    found = []
    with Map.open_pinned(maps_of(target) / "cp_iphost_v1") as hosts:
        for key, row in zip(*hosts.items(), strict=True):
            found.append((prefix(key.tobytes(), 128), row))
    with Map.open_pinned(maps_of(target) / "cp_ipcidr_v1") as cidrs:
        for key, row in zip(*cidrs.items(), strict=True):
            found.append((prefix(key["addr"].tobytes(), int(key["prefixlen"])), row))
    return [
        {
            "prefix": text,
            "identity": int(row["identity"]),
            "tunnel": address(row["tunnel"].tobytes()),
            "flags": flags(int(row["flags"]), FLAGS),
        }
        for text, row in found
    ]


def prefix(data: bytes, bits: int) -> str:
    """Return the text of a prefix over 16 bytes, in which IPv4 is mapped."""
    if data[:12] == bytes(10) + b"\xff\xff" and bits >= V4_BITS:
        return f"{ipaddress.IPv4Address(data[12:])}/{bits - V4_BITS}"
    return f"{ipaddress.IPv6Address(data)}/{bits}"


def order(text: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network.network_address), network.prefixlen
