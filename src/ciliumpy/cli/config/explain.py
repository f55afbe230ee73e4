# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy config explain`."""

from __future__ import annotations

import sys
from typing import Any

from ciliumpy.cli.config.get import Key
from ciliumpy.cli.config.list import in_force, show_settings, text
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Item, Pairs, description, finish, parse_format
from ciliumpy.cli.query import gather
from ciliumpy.client import target

WIDTH = len("Environment:")


def run(key: Key, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Explain a setting: what it does, what it may be, its value, where that came from, and what else was said of it.

    A flag beats the environment, that the configuration directory, that the file, that the default. What lost stands
    below what won.
    """
    form = parse_format(output)
    items, errors = gather(target.select(lab, node), lambda client: [client.get(f"/v1/config/{key}")])
    if form.kind not in ("text", "wide"):
        show_settings(items, output, errors)
        return
    if items:
        sys.stdout.write(description(meaning(items[0]), WIDTH))
    several = errors.asked > 1
    for alike in together(items):
        nodes = ", ".join(item["node"] for item in alike)
        sys.stdout.write("\n" + description([*([("Nodes", nodes)] if several else []), *value(alike[0])], WIDTH))
    finish(errors)


def meaning(s: Item) -> Pairs:
    """Return what a key is, the same on all nodes."""
    change = "at once: `ciliumpy config set`" if s["runtime"] else "by a restart of the agent"
    return [
        ("Key", s["key"]),
        ("Meaning", s["description"]),
        ("Type", s["type"]),
        *([("Unit", s["unit"])] if s["unit"] else []),
        ("Default", text(s["default"])),
        ("Environment", s["environment"]),
        ("Changed", change),
        ("Since", s["since"]),
    ]


def value(s: Item) -> Pairs:
    """Return what a key is on one node, and why."""
    lost = [f"{each['source']}: {text(each['value'])}" for each in s["overridden"]]
    return [("Value", in_force(s)), ("Source", s["source"]), ("Overridden", lost or "nothing")]


def together(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the items in groups that differ in their node alone."""
    groups: list[list[dict[str, Any]]] = []
    for item in items:
        for group in groups:
            if group[0] | {"node": ""} == item | {"node": ""}:
                group.append(item)
                break
        else:
            groups.append([item])
    return groups
