# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy identity get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show, show_one
from ciliumpy.cli.query import gather
from ciliumpy.client import target

Number = Annotated[int, typer.Argument(metavar="ID", help="The identity's number.")]


def run(number: Number, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show one identity: its labels, its addresses in the cluster, and each node's pods that have it."""
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
