# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy statedb watch`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ciliumpy.cli.options import Lab, Node
from ciliumpy.cli.statedb.dump import Table, cell
from ciliumpy.cli.streams import streams
from ciliumpy.cli.terminal import hint_text, printable
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError


def run(
    table: Table,
    lab: Lab = None,
    node: Node = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="text|json", help="How to print: json is an object a line.")
    ] = "text",
) -> None:
    """Print a table's rows, and then each change with its revision until Ctrl-C.

    `=` is a row that was there, `+` one that came or changed, `-` one that is gone. Of a row that changes faster than
    it is read, the last change is shown. Ends with an error when the agent ends.
    """
    if output not in ("text", "json"):
        raise CiliumpyError(f"invalid output format {output!r}", "text or json", 2)
    targets = target.select(lab, node)
    failed = False
    for name, came in streams(targets, f"/v1/statedb/{quote(table, safe='')}/watch", "change"):
        shown = name if len(targets) > 1 else ""
        if isinstance(came, dict):
            if "rows" in came:
                _begin(came, table, shown, output)
            else:
                _change(came, shown, output)
        elif came is not None:
            failed = True
            said = printable(f"Error: node {name}: {came.message}\n")
            sys.stderr.write(said + (hint_text(came.hint) if came.hint else ""))
    if failed:
        raise typer.Exit(1)


def _begin(said: dict[str, Any], table: str, node: str, output: str) -> None:
    """Tell how many rows follow, and what was missed before them."""
    where = f"{node}: " if node else ""
    if said["missed"]:
        if output == "json":
            _write(json.dumps({"node": node, "missed": said["missed"]} if node else {"missed": said["missed"]}))
        sys.stderr.write(f"{where}{said['missed']} changes were missed, read too slowly: all rows follow again\n")
    else:
        sys.stderr.write(f"{where}{said['rows']} rows of {table}, then what changes; press Ctrl-C to quit\n")


def _change(change: dict[str, Any], node: str, output: str) -> None:
    if output == "json":
        _write(json.dumps({"node": node, **change} if node else change, separators=(",", ":")))
        return
    mark = "-" if change["deleted"] else "=" if change["initial"] else "+"
    fields = " ".join(f"{name}={cell(value)}" for name, value in change["row"].items() if value not in ("", [], None))
    _write(printable(f"{f'{node}: ' if node else ''}{change['revision']:>6} {mark} {fields}"))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
