# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf map dump`."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ciliumpy.cli.bpf.every import every, maps_of, require_root
from ciliumpy.cli.bpf.row_text import key_text, nothing, value_text
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, Problems, parse_format, show
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.bpf.maps import Map

Which = Annotated[str, typer.Argument(metavar="MAP", help="A name that `bpf map list` shows, a path, or a map's id.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Print the rows of a map, decoded by the type information that the kernel keeps with it.

    A path or an id reads anybody's map. Without type information bytes are printed in hexadecimal. The text
    leaves out what is zero (fields, rows of arrays, `…` the end of a list) and of unions what is not meant; -o json has
    all.
    """
    found = opened_anywhere(which, rows)
    if found is not None:
        items, errors = found, Problems(1)
    else:
        items, errors = every(lab, node, lambda target: in_folder(maps_of(target), which, rows))
    show_rows(items, output, errors)


def show_rows(items: list[dict[str, Any]], output: str, errors: Problems) -> None:
    if parse_format(output).kind in ("text", "wide"):
        items = [row for row in items if not row.get("zero")]
    show(
        "MapRowList",
        items,
        [Column("KEY", lambda row: key_text(row["key"])), Column("VALUE", values)],
        output,
        name=lambda row: key_text(row["key"]),
        sort=lambda row: _order(row["key"]),
        errors=errors,
        empty="No entries found.",
    )


def opened_anywhere(which: str, ask: Callable[[Map], list[dict[str, Any]]]) -> list[dict[str, Any]] | None:
    """Return what `ask` finds in the map with that id or path; None if `which` is neither."""
    from ciliumpy.bpf.maps import Map

    require_root()
    if which.isdigit():
        with Map.from_id(int(which)) as opened:
            return ask(opened)
    if "/" in which:
        with Map.open_pinned(Path(which)) as opened:
            return ask(opened)
    return None


def in_folder(folder: Path, name: str, ask: Callable[[Map], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return what `ask` finds in the map of that name. CiliumpyError (2), with a suggestion, if there is none."""
    from ciliumpy.bpf.maps import Map

    if not (folder / name).exists():
        near = get_close_matches(name, [path.name for path in folder.iterdir()], cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "`ciliumpy bpf map list` shows them"
        raise CiliumpyError(f"there is no map {name!r}", hint, 2)
    with Map.open_pinned(folder / name) as opened:
        return ask(opened)


def rows(opened: Map) -> list[dict[str, Any]]:
    """Return all rows as plain values; `zero` marks a row of an array in which nothing is set."""
    from ciliumpy.bpf import dump
    from ciliumpy.bpf.sys import MapType

    found = list(dump.rows(opened))
    if opened.type in (MapType.ARRAY, MapType.PERCPU_ARRAY):
        for row in found:
            if all(nothing(row.get(part)) for part in ("value", "values")):
                row["zero"] = True
    return found


def values(row: Item) -> str | list[str]:
    """Return a row's value; of a per-CPU row a line for each CPU that has any."""
    if "values" not in row:
        return value_text(row["value"])
    return [f"cpu{each['cpu']}: {value_text(each['value'])}" for each in row["values"] if not nothing(each["value"])]


def _order(key: Any) -> tuple[bool, Any]:
    """Return a sort key: numbers by value, all else by its text."""
    return (False, key) if isinstance(key, int) else (True, key_text(key))
