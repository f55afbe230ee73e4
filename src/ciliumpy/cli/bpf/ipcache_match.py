# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ipcache match`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.bpf.ipcache_list import read, show_entries
from ciliumpy.cli.ip.list import identity_number
from ciliumpy.cli.options import Lab, Node, Output

Which = Annotated[str, typer.Argument(metavar="IDENTITY", help="A number, or a reserved name such as world.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the addresses that have an identity. Reads the kernel, not the agent."""
    number = identity_number(which)
    items, errors = every(lab, node, lambda target: [row for row in read(target) if row["identity"] == number])
    show_entries(items, errors, output)
