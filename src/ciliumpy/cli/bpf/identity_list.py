# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf identity list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.cli.selectors import selector_lines

if TYPE_CHECKING:
    from ciliumpy.client.target import Target

COLUMNS = [
    Column("IDENTITY", lambda i: i["identity"]),
    Column("MEETS SELECTORS", lambda i: selector_lines(i["selectors"]) or "none"),
    Column("BITS", lambda i: ",".join(str(bit) for bit in i["bits"]), wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List which selectors of the node's policies each identity meets: its vector. Reads the kernel, not the agent.

    An identity without a vector meets every deny rule and no other. Selectors are named by the agent; without it they
    are numbers.
    """
    items, errors = every(lab, node, read)
    show_vectors(items, output, errors)


def show_vectors(items: list[dict[str, Any]], output: str, errors: Any) -> None:
    show(
        "BPFIdentityList",
        items,
        COLUMNS,
        output,
        name=lambda i: str(i["identity"]),
        sort=lambda i: i["identity"],
        errors=errors,
        empty="No entries found.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    """Return the vectors of all identities."""
    from ciliumpy.bpf.maps import Map
    from ciliumpy.bpf.names import width_in_use
    from ciliumpy.cli.bpf.policy_rows import selectors

    names, folder = selectors(target), maps_of(target)
    with Map.open_pinned(folder / width_in_use(folder).vectors) as opened:
        keys, values = opened.items()
    found = []
    for key, value in zip(keys, values, strict=True):
        mask = int.from_bytes(value.tobytes(), "little")
        bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
        named = [names.get(bit, f"selector {bit}") for bit in bits]
        found.append({"identity": int(key), "selectors": sorted(named), "bits": bits})
    return found
