# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf endpoint get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.bpf.endpoint_id import on_node
from ciliumpy.cli.bpf.endpoint_list import COLUMNS, read
from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import show
from ciliumpy.kit.errors import CiliumpyError

Which = Annotated[str, typer.Argument(metavar="[NODE:]ID|ADDRESS", help="An endpoint: 4, n1:4, 10.244.1.7, fd00::3.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show one endpoint as the datapath has it. Reads the kernel, not the agent."""
    number: int | None = None
    if "." not in which and "::" not in which:
        node, number = on_node(which, node)
    items, errors = every(lab, node, read)
    found = [e for e in items if e["id"] == number or which in (e["ipv4"], e["ipv6"])]
    if not found and not errors:
        raise CiliumpyError(f"the datapath has no endpoint {which}", "`ciliumpy bpf endpoint list` shows them")
    wide = "wide" if output == "text" else output
    show("BPFEndpointList", found, COLUMNS, wide, name=lambda e: str(e["id"]), sort=lambda e: e["id"], errors=errors)
