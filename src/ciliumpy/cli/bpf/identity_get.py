# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf identity get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.bpf.identity_list import read, show_vectors
from ciliumpy.cli.ip.list import identity_number
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.kit.errors import CiliumpyError

Which = Annotated[str, typer.Argument(metavar="IDENTITY", help="A number, or a reserved name such as world.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show which selectors one identity meets. Reads the kernel, not the agent."""
    number = identity_number(which)
    items, errors = every(lab, node, lambda target: [row for row in read(target) if row["identity"] == number])
    if not items and not errors:
        raise CiliumpyError(
            f"the datapath has no vector of identity {which}: it meets every deny rule and no other",
            "`ciliumpy bpf identity list` shows what there is",
        )
    show_vectors(items, output, errors)
