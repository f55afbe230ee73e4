# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy config set`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ciliumpy.cli.config.list import show_settings
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.query import gather
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError

KeyOrBoth = Annotated[str, typer.Argument(metavar="KEY", help="As log.level; or KEY=VALUE.")]
Value = Annotated[str | None, typer.Argument(metavar="[VALUE]", help="What it shall be.")]


def run(key: KeyOrBoth, value: Value = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Change a setting of the agents while they run. Of all settings this can be done with log.level.

    It is not kept: an agent that starts again reads its configuration. `ciliumpy config KEY=VALUE` is the same.
    """
    if value is None:
        key, equals, value = key.partition("=")
        if not equals:
            raise CiliumpyError(f"{key} shall be what?", f"ciliumpy config set {key} VALUE", 2)
    items, errors = gather(target.select(lab, node), lambda client: [client.put(f"/v1/config/{key}", {"value": value})])
    if items:
        sys.stderr.write("Not kept: an agent that starts again reads its configuration.\n")
    show_settings(items, output, errors)
