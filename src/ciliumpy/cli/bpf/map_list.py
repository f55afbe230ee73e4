# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf map list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ciliumpy.bpf.listing import list_maps
from ciliumpy.cli.bpf.every import every, maps_of, require_root
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Problems, show
from ciliumpy.kit.units import format_bytes

COLUMNS = [
    Column("NAME", lambda m: m["name"]),
    Column("TYPE", lambda m: m["type"]),
    Column("KEY", lambda m: m["keySize"], wide=True, right=True),
    Column("VALUE", lambda m: m["valueSize"], wide=True, right=True),
    Column("ENTRIES", lambda m: "-" if m["entries"] is None else m["entries"], right=True),
    Column("MAX", lambda m: m["maxEntries"], right=True),
    Column("FULL", lambda m: full(m["entries"], m["maxEntries"]), right=True),
    Column("MEMORY", lambda m: format_bytes(m["memoryBytes"]), right=True),
    Column("ID", lambda m: m["id"], wide=True, right=True),
    Column("PATH", lambda m: m["path"], wide=True),
]

Where = Annotated[
    Path | None,
    typer.Argument(metavar="[PATH]", help="Any folder of a BPF file system, and what is below it."),
]


def run(path: Where = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the pinned maps: type, and how full they are. Reads the kernel, not the agent.

    Every entry of an array is always there; ENTRIES is `-` where there are none to count. -o wide has the sizes of key
    and value in bytes too, the number, and the path.
    """
    errors = Problems(1)
    if path is None:
        items, errors = every(lab, node, lambda target: maps(maps_of(target)))
    else:
        require_root()
        items = maps(path)
    show(
        "MapList",
        items,
        COLUMNS,
        output,
        name=lambda m: str(m["name"]),
        sort=lambda m: m["name"],
        errors=errors,
        empty="No maps found.",
    )


def full(entries: int | None, room: int) -> str:
    """Return a share in per cent."""
    return f"{entries / room:.1%}" if entries is not None and room else "-"


def maps(folder: Path) -> list[dict[str, Any]]:
    """Return what the kernel says of the maps pinned in a folder and below it."""
    return [
        {
            "name": each.name,
            "id": each.id,
            "type": each.type,
            "keySize": each.key_size,
            "valueSize": each.value_size,
            "entries": each.entries,
            "maxEntries": each.max_entries,
            "flags": each.flags,
            "memoryBytes": each.memlock,
            "path": each.path,
        }
        for each in list_maps(folder)
    ]
