# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab status`."""

from __future__ import annotations

import sys
from typing import Any

import typer

from ciliumpy.cli.options import Lab, Output
from ciliumpy.cli.output import Column, document, parse_format, table
from ciliumpy.cli.terminal import printable


def run(lab: Lab = None, output: Output = "text") -> None:
    """Show the lab's nodes and pods. Exit code 1 if something is wrong."""
    from ciliumpy.lab import machine, place, status

    form = parse_format(output)
    machine.need_root()
    found = status.status(place.only_lab(lab))
    if form.kind == "name":
        sys.stdout.writelines(f"pod/{p['namespace']}/{p['name']}\n" for p in found["pods"])
    elif form.kind in ("text", "wide"):
        sys.stdout.write(_text(found, wide=form.kind == "wide"))
    else:
        sys.stdout.write(document(found, form))
    sys.stdout.flush()
    for error in found["errors"]:
        sys.stderr.write(printable(f"Error: {error}\n"))
    if found["errors"]:
        raise typer.Exit(1)


def _text(found: dict[str, Any], *, wide: bool) -> str:
    nodes = [
        Column("NODE", lambda n: n["name"]),
        Column("STATE", lambda n: n["state"]),
        Column("PID", lambda n: n["pid"] or "", right=True),
        Column("ADDRESSES", lambda n: ", ".join(n["addresses"])),
    ]
    pods = [
        Column("NAMESPACE", lambda p: p["namespace"]),
        Column("POD", lambda p: p["name"]),
        Column("NODE", lambda p: p["node"]),
        Column("PHASE", lambda p: p["phase"]),
        Column("ADDRESS", lambda p: p["addresses"] if wide else p["addresses"][:1]),
    ]
    if wide:
        pods.append(Column("PIDS", lambda p: ", ".join(map(str, p["pids"]))))
    if any(p["message"] for p in found["pods"]):
        pods.append(Column("MESSAGE", lambda p: p["message"]))
    text = f"lab {found['name']}, store {found['store']}\n\n{table(nodes, found['nodes'])}"
    return text + (f"\n{table(pods, found['pods'])}" if found["pods"] else "\nno pods\n")
