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

ABSENT = "N/A"  # of a server that does not answer
COLUMNS = [
    Column("NAME", lambda n: n["name"]),
    Column("STATUS", lambda n: n["status"]),
    Column("AGE", lambda n: format_duration(n["uptimeNs"] / 1e9) if n["uptimeNs"] else ABSENT),
    Column(
        "FLOWS/S", lambda n: f"{n['seenFlows'] / (n['uptimeNs'] / 1e9):.2f}" if n["uptimeNs"] else ABSENT, right=True
    ),
    Column("CURRENT/MAX-FLOWS", lambda n: f"{n['flows']}/{n['maxFlows']}" if n["uptimeNs"] else ABSENT, right=True),
    Column("VERSION", lambda n: n["version"] or ABSENT, wide=True),
    Column("ADDRESS", lambda n: n["address"], wide=True),
    Column("TLS", lambda n: "Enabled" if n["tls"] else "Disabled", wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List Hubble's servers, one a node: since when they run, how many flows they keep and see.

    FLOWS/S is the mean since the server's start. A server that does not answer is `Unavailable`.
    """
    targets = target.select(lab, node)
    items, errors = query.each(targets, ask)
    cluster = items[0]["name"].rpartition("/")[0] if items else ""  # they all are of one
    absent = {problem.node for problem in errors}
    items += [unavailable(each, cluster) for each in targets if each.node in absent]
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


def unavailable(of: Target, cluster: str) -> dict[str, Any]:
    """Return the row of a server that does not answer; `ask` says what stands in one."""
    return {
        "node": of.node,
        "name": f"{cluster}/{of.node}" if cluster else of.node,
        "status": "Unavailable",
        "uptimeNs": 0,
        "flows": 0,
        "maxFlows": 0,
        "seenFlows": 0,
        "version": "",
        "address": f"unix://{of.hubble_socket}",
        "tls": False,
    }
