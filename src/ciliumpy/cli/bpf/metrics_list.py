# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf metrics list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show

if TYPE_CHECKING:
    from ciliumpy.client.target import Target

DIRECTIONS = ("INGRESS", "EGRESS")
COLUMNS = [
    Column("REASON", lambda m: m["description"]),
    Column("DIRECTION", lambda m: m["direction"]),
    Column("PACKETS", lambda m: m["packets"], right=True),
    Column("BYTES", lambda m: m["bytes"], right=True),
    Column("NUMBER", lambda m: m["number"], right=True, wide=True),
    Column("HUBBLE", lambda m: m["reason"], wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List how many packets were forwarded, and dropped for which reason, since the maps were made.

    Reads the kernel, not the agent.
    """
    items, errors = every(lab, node, read)
    show_metrics(items, output, errors)


def show_metrics(items: list[dict[str, Any]], output: str, errors: Any) -> None:
    show(
        "BPFMetricsList",
        items,
        COLUMNS,
        output,
        name=lambda m: f"{m['number']}/{m['direction'].lower()}",
        sort=lambda m: (m["number"], m["direction"]),
        errors=errors,
        empty="No entries found.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    """Return what has counted anything, the CPUs added up."""
    from ciliumpy.bpf.maps import Map
    from ciliumpy.model.drop_reasons import DROP_REASONS

    with Map.open_pinned(maps_of(target) / "cp_metrics_v1") as opened:
        keys, values = opened.items()
    found = []
    for key, cpus in zip(keys, values, strict=True):
        packets, octets = int(cpus["packets"].sum()), int(cpus["bytes"].sum())
        if not packets:
            continue
        number, direction = divmod(int(key), 2)
        name, text = DROP_REASONS.get(number, ("", str(number))) if number else ("", "Forwarded")
        found.append(
            {
                "number": number,
                "reason": name,
                "description": text,
                "direction": DIRECTIONS[direction],
                "packets": packets,
                "bytes": octets,
            }
        )
    return found
