# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ipcache get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.bpf.ipcache_list import COLUMNS, order, read
from ciliumpy.cli.ip.get import cover, parse
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.kit.errors import CiliumpyError

Which = Annotated[str, typer.Argument(metavar="ADDRESS", help="An address, or a prefix: 10.244.1.7, 10.0.0.0/8.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show which identity the datapath gives an address: the longest prefix decides. Reads the kernel, not the agent.

    -o wide also has the shorter prefixes that cover it.
    """
    asked = parse(which)
    items, errors = every(lab, node, read)
    found = []
    for place in dict.fromkeys(item["node"] for item in items):
        covering = cover(asked, [item for item in items if item["node"] == place])
        if covering:
            found.append(covering[0] | {"asked": str(asked), "covered": [each["prefix"] for each in covering[1:]]})
    if not found and not errors:
        raise CiliumpyError(f"the datapath has no entry that covers {which}: it is the world", "see `bpf ipcache list`")
    show(
        "IPCacheList",
        found,
        [*COLUMNS, Column("ALSO COVERED BY", lambda e: e["covered"], wide=True)],
        output,
        name=lambda e: str(e["prefix"]),
        sort=lambda e: order(e["prefix"]),
        errors=errors,
    )
