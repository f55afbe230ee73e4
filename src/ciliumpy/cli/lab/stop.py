# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.lab.say import say
from ciliumpy.cli.options import Lab

Nodes = Annotated[list[str] | None, typer.Argument(metavar="[NODE...]", help="These nodes only.")]


def run(nodes: Nodes = None, lab: Lab = None) -> None:
    """Stop the agents, or these nodes'. The pods run on, and what they may do stays as it is."""
    from ciliumpy.lab import lifecycle, place

    lifecycle.stop(place.only_lab(lab), nodes or [], say)
