# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy config list`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target

Changed = Annotated[bool, typer.Option("--changed", help="Only what somebody has set.")]


def text(value: Any) -> str:
    """Return a value as it is written in YAML's short form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(text(each) for each in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={text(each)}" for key, each in sorted(value.items())) or "{}"
    return str(value) if value != "" else '""'


def in_force(setting: Item) -> str:
    """Return the value, and what it comes to where it says "as it is best here"."""
    same = setting["effective"] == setting["value"]
    return text(setting["value"]) + ("" if same else f" ({text(setting['effective'])})")


COLUMNS = [
    Column("KEY", lambda s: s["key"]),
    Column("VALUE", in_force),
    Column("SOURCE", lambda s: s["source"]),
    Column("DEFAULT", lambda s: text(s["default"]), wide=True),
    Column("TYPE", lambda s: s["type"], wide=True),
    Column("UNIT", lambda s: s["unit"], wide=True),
    Column("RUN TIME", lambda s: "yes" if s["runtime"] else "no", wide=True),
    Column("ENVIRONMENT", lambda s: s["environment"], wide=True),
]


def run(changed: Changed = False, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the settings in force, and where each came from: a file and its line, the environment, or the default.

    Where a value leaves it to the agent, what it came to stands in brackets. There are no secrets among them.
    """
    items, errors = listing(target.select(lab, node), "/v1/config")
    show_settings([item for item in items if not changed or item["source"] != "default"], output, errors)


def show_settings(items: list[dict[str, Any]], output: str, errors: Any) -> None:
    show(
        "SettingList",
        items,
        COLUMNS,
        output,
        name=lambda s: str(s["key"]),
        sort=lambda s: s["key"],
        errors=errors,
        empty="Nobody has set anything: all is by default.",
    )
