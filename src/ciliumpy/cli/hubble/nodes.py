# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy hubble list nodes`."""

from __future__ import annotations

from typing import Any

from ciliumpy.cli import query
from ciliumpy.cli.hubble import asked
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.client import target
from ciliumpy.client.target import Target
from ciliumpy.kit.units import format_duration

COLUMNS = [
    Column("NAME", lambda n: n["name"]),
    Column("STATUS", lambda n: n["status"]),
    Column("AGE", lambda n: format_duration(n["uptimeNs"] / 1e9)),
    Column("FLOWS/S", lambda n: f"{n['seenFlows'] / max(1e-9, n['uptimeNs'] / 1e9):.2f}", right=True),
    Column("CURRENT/MAX-FLOWS", lambda n: f"{n['flows']}/{n['maxFlows']}", right=True),
    Column("VERSION", lambda n: n["version"], wide=True),
    Column("ADDRESS", lambda n: n["address"], wide=True),
    Column("TLS", lambda n: "Enabled" if n["tls"] else "Disabled", wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List Hubble's servers, one a node: since when they run, how many flows they keep and see.

    FLOWS/S is the mean since the server's start.
    """
    items, errors = query.each(target.select(lab, node), ask)
    for item in items:
        del item["node"]  # its name says it
    show(
        "HubbleNodeList", items, COLUMNS, output, name=lambda n: str(n["name"]), sort=lambda n: n["name"], errors=errors
    )


def ask(of: Target) -> list[dict[str, Any]]:
    from ciliumpy.proto.relay_pb2 import NodeState

    return [
        {
            "name": each.name,
            "status": NodeState.Name(each.state).removeprefix("NODE_").capitalize(),
            "uptimeNs": each.uptime_ns,
            "flows": each.num_flows,
            "maxFlows": each.max_flows,
            "seenFlows": each.seen_flows,
            "version": each.version,
            "address": each.address,
            "tls": each.tls.enabled,
        }
        for each in asked.nodes(of)
    ]
