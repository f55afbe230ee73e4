# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf policy get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.bpf import policy_list
from ciliumpy.cli.options import Lab, Node, Output

Which = Annotated[str, typer.Argument(metavar="ENDPOINT|SET", help="The endpoint, 4, n1:4, shop/api, host; or set:12.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show what one endpoint is judged by, as `bpf policy list ID` does. Reads the kernel, not the agent."""
    policy_list.run(which, lab=lab, node=node, output=output)
