# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy config get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.config.list import show_settings
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.query import gather
from ciliumpy.client import target

Key = Annotated[str, typer.Argument(metavar="KEY", help="As log.level; `ciliumpy config list` shows them.")]


def run(key: Key, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show the value of one setting on each node. For a script: -o jsonpath='{.items[*].value}'."""
    items, errors = gather(target.select(lab, node), lambda client: [client.get(f"/v1/config/{key}")])
    show_settings(items, output, errors)
