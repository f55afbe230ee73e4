# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab start`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.lab.say import say
from ciliumpy.cli.options import Lab

Nodes = Annotated[list[str] | None, typer.Argument(metavar="[NODE...]", help="These nodes only.")]


def run(nodes: Nodes = None, lab: Lab = None) -> None:
    """Start the agents, or these nodes', and wait until they are ready. One that runs is left as it is."""
    from ciliumpy.lab import lifecycle, place

    lifecycle.start(place.only_lab(lab), nodes or [], say)
