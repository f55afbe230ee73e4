# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf endpoint list`."""

from __future__ import annotations

from typing import Any

from ciliumpy.cli.bpf.decode import address, flags
from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.client.target import Target

FLAGS = {
    1: "ready",
    2: "enforce-ingress",
    4: "enforce-egress",
    8: "same-netns",
    16: "proxy-arp",
    32: "audit",
}  # enum endpoint_flags of layout.h
READY, INGRESS, EGRESS = 1, 2, 4


def info(e: Item) -> list[str]:
    return [
        f"id={e['id']} sec_id={e['identity']} set={e['policySet']} flags=0x{e['rawFlags']:04x} ifindex={e['ifindex']}",
        f"mac={e['mac']} nodemac={e['hostMAC']}",
    ]


COLUMNS = [
    Column("IP ADDRESS", lambda e: [a for a in (e["ipv4"], e["ipv6"]) if a]),
    Column("LOCAL ENDPOINT INFO", info),
    Column("FLAGS", lambda e: ",".join(e["flags"]), wide=True),
    Column("GENERATION", lambda e: e["generation"], wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the endpoints as the datapath has them. Reads the kernel, not the agent."""
    items, errors = every(lab, node, read)
    show(
        "BPFEndpointList",
        items,
        COLUMNS,
        output,
        name=lambda e: str(e["id"]),
        sort=lambda e: e["id"],
        errors=errors,
        empty="No entries found.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    """Return the slots that are in use."""
    from ciliumpy.bpf.maps import Map

    with Map.open_pinned(maps_of(target) / "cp_endpoint_v1") as opened:
        keys, values = opened.items()
    return [
        {
            "id": int(slot),
            "ipv4": address(row["ip4"].tobytes()),
            "ipv6": address(row["ip6"].tobytes()),
            "identity": int(row["identity"]),
            "policySet": int(row["policy_set"]),
            "flags": flags(int(row["flags"]), FLAGS),
            "rawFlags": int(row["flags"]),
            "generation": int(row["generation"]),
            "ifindex": int(row["ifindex"]),
            "mac": row["mac"].tobytes().hex(":"),
            "hostMAC": row["host_mac"].tobytes().hex(":"),
        }
        for slot, row in zip(keys, values, strict=True)
        if row["flags"] & READY
    ]
