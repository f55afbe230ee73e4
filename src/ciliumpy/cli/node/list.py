# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy node list`."""

from __future__ import annotations

from typing import Any

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.cli.query import gather
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient


def family(values: list[str], six: bool) -> str:
    """Return the first address or prefix of a family."""
    return next((value for value in values if (":" in value) == six), "")


COLUMNS = [
    Column("Name", lambda n: n["name"]),
    Column("IPv4 Address", lambda n: family(n["internalIPs"], six=False)),
    Column("Endpoint CIDR", lambda n: family(n["podCIDRs"], six=False)),
    Column("IPv6 Address", lambda n: family(n["internalIPs"], six=True)),
    Column("Endpoint CIDR", lambda n: family(n["podCIDRs"], six=True)),
    Column("Source", lambda n: n["source"], wide=True),
    Column("Router", lambda n: n["routerIPs"], wide=True),
    Column("Cluster", lambda n: n["cluster"], wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the nodes of the cluster as the agents know them.

    Each node is asked for itself if its agent runs; of the others one agent's word is taken.
    """
    items, errors = gather(target.select(lab, node), ask)
    show(
        "NodeList",
        best(items),
        COLUMNS,
        output,
        name=lambda n: str(n["name"]),
        sort=lambda n: n["name"],
        errors=errors,
        empty="No nodes found.",
    )


def ask(client: AdminClient) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = client.get("/v1/nodes")["items"]
    return [each | {"source": "local" if each["name"] == client.agent else "store"} for each in nodes]


def best(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one item a node: its own word before another's. The items lose `node`: they are the cluster's."""
    chosen: dict[str, dict[str, Any]] = {}
    for item in items:
        if item["name"] not in chosen or item["source"] == "local":
            chosen[item["name"]] = {key: value for key, value in item.items() if key != "node"}
    return list(chosen.values())
