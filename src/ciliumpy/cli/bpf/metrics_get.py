# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf metrics get`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.bpf.metrics_list import read, show_metrics
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.drop_reasons import DROP_REASONS

Which = Annotated[
    str, typer.Argument(metavar="REASON", help="forwarded, or a drop reason: its number or name, POLICY_DENIED.")
]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show how many packets were dropped for one reason, or forwarded. Reads the kernel, not the agent."""
    number = reason(which)
    items, errors = every(lab, node, lambda target: [row for row in read(target) if row["number"] == number])
    show_metrics(items, output, errors)


def reason(which: str) -> int:
    """Return the number of a drop reason; 0 is forwarded. CiliumpyError (2) if there is no such reason."""
    if which.lower() == "forwarded":
        return 0
    if which.isascii() and which.isdecimal() and int(which) in DROP_REASONS:
        return int(which)
    names = {name: number for number, (name, _) in DROP_REASONS.items() if name and number}
    wanted = which.upper().replace(" ", "_").replace("-", "_")
    if wanted in names:
        return names[wanted]
    near = get_close_matches(wanted, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "`ciliumpy bpf metrics list -o wide` shows those that happened"
    raise CiliumpyError(f"there is no drop reason {which!r}", hint, 2)
