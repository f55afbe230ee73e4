# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf map get`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.bpf.map_dump import in_folder, opened_anywhere, rows, show_rows
from ciliumpy.cli.bpf.row_text import key_text
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Problems, show
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.kit.units import format_bytes

if TYPE_CHECKING:
    from ciliumpy.bpf.maps import Map

Which = Annotated[str, typer.Argument(metavar="MAP", help="A name that `bpf map list` shows, a path, or a map's id.")]
Key = Annotated[str | None, typer.Argument(metavar="[KEY]", help="A key as `bpf map dump` shows it.")]
COLUMNS = [
    Column("NAME", lambda m: m["name"]),
    Column("ID", lambda m: m["id"], right=True),
    Column("TYPE", lambda m: m["type"]),
    Column("ENTRIES", lambda m: f"{'-' if m['entries'] is None else m['entries']}/{m['maxEntries']}", right=True),
    Column("KEY", lambda m: m["keyFields"] or f"{m['keySize']} bytes"),
    Column("VALUE", lambda m: m["valueFields"] or f"{m['valueSize']} bytes"),
    Column("SIZE", lambda m: f"{format_bytes(m['keySize'])} + {format_bytes(m['valueSize'])}", wide=True),
    Column("FLAGS", lambda m: hex(m["flags"]), wide=True),
]


def run(which: Which, key: Key = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show what a map is: its type, fill, and the fields of its key and value; with a KEY, that one row.

    A path or an id reads anybody's map. Reads the kernel, not the agent.
    """

    def ask(opened: Map) -> list[dict[str, Any]]:
        return facts(opened) if key is None else [row for row in rows(opened) if key_text(row["key"]) == key]

    found = opened_anywhere(which, ask)
    items, errors = (
        (found, Problems(1))
        if found is not None
        else every(lab, node, lambda target: in_folder(maps_of(target), which, ask))
    )
    if key is not None:
        if not items and not errors:
            raise CiliumpyError(f"{which} has no row {key!r}", f"`ciliumpy bpf map dump {which}` shows its keys")
        show_rows(items, output, errors)
        return
    show("MapList", items, COLUMNS, output, name=lambda m: str(m["name"]), sort=lambda m: m["name"], errors=errors)


def facts(of: Map) -> list[dict[str, Any]]:
    """Return what the kernel says of a map; fields are `name: C type`, empty without type information."""
    from ciliumpy.bpf.listing import count_entries
    from ciliumpy.bpf.sys import MapType

    return [
        {
            "name": of.name,
            "id": of.id,
            "type": MapType.label(of.type),
            "keySize": of.key_size,
            "valueSize": of.value_size,
            "entries": count_entries(of.fd, of.info),
            "maxEntries": of.max_entries,
            "flags": of.flags,
            "keyFields": fields(of, of.info.btf_key_type_id),
            "valueFields": fields(of, of.info.btf_value_type_id),
        }
    ]


def fields(of: Map, type_id: int) -> list[str]:
    """Return the members of a struct with their types, or the one type of what is none."""
    if not of.btf or not type_id:
        return []
    members = list(of.btf.members(of.btf.strip(type_id)))
    if not members:
        return [of.btf.type_name(type_id)]
    return [f"{member.name}: {of.btf.type_name(member.type)}" for member in members]
