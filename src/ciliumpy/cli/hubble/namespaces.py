# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy hubble list namespaces`."""

from __future__ import annotations

from typing import Any

from ciliumpy.cli import query
from ciliumpy.cli.hubble import asked
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.client import target
from ciliumpy.client.target import Target

COLUMNS = [
    Column("NAMESPACE", lambda n: n["namespace"]),
    Column("CLUSTER", lambda n: n["cluster"], wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the namespaces that stood at either end of a flow in the last hour, of all nodes together."""
    items, errors = query.each(target.select(lab, node), ask)
    found = {(item["cluster"], item["namespace"]): {k: v for k, v in item.items() if k != "node"} for item in items}
    show(
        "HubbleNamespaceList",
        found.values(),
        COLUMNS,
        output,
        name=lambda n: str(n["namespace"]),
        sort=lambda n: (n["cluster"], n["namespace"]),
        errors=errors,
        empty="No flows of a namespace in the last hour.",
    )


def ask(of: Target) -> list[dict[str, Any]]:
    return [{"cluster": each.cluster, "namespace": each.namespace} for each in asked.namespaces(of).namespaces]
