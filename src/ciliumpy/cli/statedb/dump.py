# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy statedb dump`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target

Table = Annotated[str, typer.Argument(metavar="TABLE", help="A name that `ciliumpy statedb tables` shows.")]


def run(table: Table, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Print the rows of a table as they are. -o wide adds each row's revision, -o json keeps values whole."""
    items, errors = listing(target.select(lab, node), f"/v1/statedb/{table}")
    show(
        "RowList",
        items,
        columns(items),
        output,
        name=lambda row: str(next(iter(row["row"].values()))),
        sort=lambda row: [natural(value) for value in row["row"].values()],
        errors=errors,
        empty=f"Table {table} has no rows.",
    )


def columns(items: list[dict[str, Any]]) -> list[Column]:
    """Return a column for each field, and for the status where there is one."""
    fields = list(items[0]["row"]) if items else []
    shown = [Column(heading(field), lambda row, field=field: cell(row["row"][field])) for field in fields]  # type: ignore[misc]
    if any("status" in row for row in items):
        shown.append(Column("STATUS", status))
    return [*shown, Column("REVISION", lambda row: row["revision"], wide=True)]


def heading(field: str) -> str:
    """Return a key in camelCase as the heading of a column."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", field).upper()


def status(row: Item) -> str:
    said = row.get("status", {})
    return f"{said.get('state', '')} {said.get('error', '')}".strip()


def cell(value: Any) -> object:
    """Return a field in one cell: lists of scalars as they are, what is nested as compact JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if len(value) <= 64 else value[:61] + "..."
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        return ",".join(str(each) for each in value)
    if isinstance(value, list | dict):
        import json

        text = json.dumps(value, separators=(",", ":"))
        return text if len(text) <= 64 else text[:61] + "..."
    return value


def natural(value: Any) -> tuple[int, Any]:
    """Return a sort key that holds numbers and texts apart."""
    return (0, value) if isinstance(value, int | float) else (1, str(value))
