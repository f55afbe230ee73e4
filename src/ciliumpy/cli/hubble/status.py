# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy hubble status`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ciliumpy.cli import query
from ciliumpy.cli.hubble import asked
from ciliumpy.cli.options import Lab, Node
from ciliumpy.cli.output import finish
from ciliumpy.client import target
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError


def run(
    lab: Lab = None,
    node: Node = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="compact|json", help="How to print.")] = "compact",
) -> None:
    """Show how Hubble's servers are: health, flows kept and seen, flows a second, nodes that do not answer.

    The numbers are those of all nodes together. Ends with 1 if a node does not answer.
    """
    if output not in ("compact", "json"):
        raise CiliumpyError(f"invalid output format {output!r}", "compact or json", 2)
    targets = target.select(lab, node)
    items, problems = query.each(targets, ask)
    if not items:
        finish(problems)
    if output == "json":
        import json

        sys.stdout.write(json.dumps(whole(items, [each.node for each in problems])) + "\n")
    else:
        sys.stdout.write(text(items, [each.node for each in problems], targets))
    finish(problems)


def ask(of: Target) -> list[dict[str, Any]]:
    found = asked.status(of)
    return [
        {
            "num_flows": found.num_flows,
            "max_flows": found.max_flows,
            "seen_flows": found.seen_flows,
            "uptime_ns": found.uptime_ns,
            "flows_rate": found.flows_rate,
            "version": found.version,
        }
    ]


def whole(items: list[dict[str, Any]], absent: list[str]) -> dict[str, Any]:
    """Return the answers as one, in hubble's words: 64 bits as text, sums, and the longest uptime."""
    summed = {name: str(sum(item[name] for item in items)) for name in ("num_flows", "max_flows", "seen_flows")}
    made: dict[str, Any] = {
        **summed,
        "uptime_ns": str(max(item["uptime_ns"] for item in items)),
        "num_connected_nodes": len(items),
        "num_unavailable_nodes": len(absent),
    }
    if absent:
        made["unavailable_nodes"] = absent
    rate = sum(item["flows_rate"] for item in items)
    return {**made, "version": items[0]["version"], "flows_rate": round(rate, 3)}


def text(items: list[dict[str, Any]], absent: list[str], targets: list[Target]) -> str:
    said = whole(items, absent)
    kept, most = int(said["num_flows"]), int(said["max_flows"])
    via = f"unix://{targets[0].hubble_socket}" if len(targets) == 1 else f"{len(targets)} agents"
    via = f"{len(items)} of {via}" if absent else via
    lines = [
        f"Healthcheck (via {via}): Ok",
        f"Current/Max Flows: {kept:,}/{most:,} ({100 * kept / most if most else 0:.2f}%)",
        f"Flows/s: {said['flows_rate']:.2f}",
        f"Connected Nodes: {len(items)}/{len(items) + len(absent)}",
    ]
    if absent:
        lines += [f"Unavailable Nodes: {len(absent)}", *(f"  - {name}" for name in absent)]
    return "\n".join(lines) + "\n"
