# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy identity list`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ciliumpy.cli.endpoint.list import has
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target

COLUMNS = [
    Column("ID", lambda i: i["id"]),
    Column("LABELS", lambda i: i["labels"]),
    Column("ENDPOINTS", lambda i: i["endpoints"], wide=True),
]


def run(
    labels: Annotated[list[str], typer.Argument(metavar="LABEL", help="Only with all these labels.")] = [],  # noqa: B006
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """List the security identities: the reserved ones and those of the cluster's pods.

    Identities belong to the cluster: when several agents are asked and agree, each is shown once.
    """
    targets = target.select(lab, node)
    items, errors = listing(targets, "/v1/identities")
    show(
        "IdentityList",
        [i for i in once(items, len(targets) - len(errors)) if all(has(i, label) for label in labels)],
        COLUMNS,
        output,
        name=lambda i: str(i["id"]),
        sort=lambda i: i["id"],
        errors=errors,
        empty="No identities found.",
    )


def once(items: list[dict[str, Any]], agents: int) -> list[dict[str, Any]]:
    """Merge what all agents say alike into one item without `node`, its endpoints added up; else leave it by node."""
    by_id: dict[int, list[dict[str, Any]]] = {}
    for item in items:
        by_id.setdefault(item["id"], []).append(item)
    if agents < 2 or any(len(same) != agents or len({tuple(i["labels"]) for i in same}) > 1 for same in by_id.values()):
        return items
    merged = []
    for same in by_id.values():
        item = {key: value for key, value in same[0].items() if key != "node"}
        merged.append(item | {"endpoints": sum(each["endpoints"] for each in same)})
    return merged
