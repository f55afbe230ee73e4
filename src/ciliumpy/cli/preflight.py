# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy preflight`."""

from __future__ import annotations

import sys

import typer

from ciliumpy.cli.options import Output
from ciliumpy.cli.output import Column, parse_format, show

COLUMNS = [
    Column("STATE", lambda r: r["state"]),
    Column("REQUIREMENT", lambda r: r["name"]),
    Column("FOUND", lambda r: r["found"]),
    Column("NEEDED", lambda r: r["needed"]),
    Column("CURE", lambda r: r["cure"], wide=True),
]


def run(output: Output = "text") -> None:
    """Check what this machine has against what is needed. Changes nothing, and needs no root.

    `missing`: nothing works without it. `low`: works, but worse. `unknown`: not to be seen from here. Exit code 1 if
    anything is missing.
    """
    from ciliumpy.cli.requirements import check

    found = check()
    show(
        "RequirementList",
        [each._asdict() | {"order": n} for n, each in enumerate(found)],
        COLUMNS,
        output,
        name=lambda r: str(r["name"]),
        sort=lambda r: r["order"],
    )
    if parse_format(output).kind == "text":
        cures = [each for each in found if each.state != "ok" and each.cure]
        width = max((len(each.name) for each in cures), default=0)
        sys.stdout.write("\nCures:\n" if cures else "\nEverything that is needed is here.\n")
        for each in cures:
            sys.stdout.write(f"  {each.name:<{width}}   {each.cure}\n")
    if any(each.state == "missing" for each in found):
        raise typer.Exit(1)
