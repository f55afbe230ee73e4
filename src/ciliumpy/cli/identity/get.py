# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy identity get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show, show_one
from ciliumpy.cli.query import gather
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import parse_identity

Which = Annotated[str, typer.Argument(metavar="ID", help="A number, or a reserved name such as world.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show one identity: its labels, its addresses in the cluster, and each node's pods that have it."""
    try:
        number = parse_identity(which)
    except ValueError as error:
        raise CiliumpyError(str(error), "a number, or a reserved name such as world", 2) from None
    items, errors = gather(target.select(lab, node), lambda client: [client.get(f"/v1/identities/{number}")])
    if output == "text" and len(items) == 1 and not errors:
        show_one("IdentityList", items[0], pairs(items[0]), output, name=str(number))
        return
    columns = [
        Column("LABELS", lambda i: i["labels"]),
        Column("PODS", lambda i: i["pods"]),
        Column("ADDRESSES", lambda i: i["addresses"]),
    ]
    show("IdentityList", items, columns, output, name=lambda i: str(i["id"]), sort=lambda i: i["id"], errors=errors)


def pairs(i: Item) -> list[tuple[str, object]]:
    return [
        ("Identity", f"{i['id']}{' (reserved)' if i['reserved'] else ''}"),
        ("Labels", i["labels"]),
        (f"Pods on {i['node']}", i["pods"] or "none"),
        ("Addresses", i["addresses"] or "none"),
    ]
