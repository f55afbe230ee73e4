# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy list`."""

from __future__ import annotations

from ciliumpy.cli.options import Lab, Namespace, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target
from ciliumpy.model.policy_kinds import SHORT

COLUMNS = [
    Column("NAMESPACE", lambda p: p["namespace"] or "-"),
    Column("NAME", lambda p: p["name"]),
    Column("KIND", lambda p: SHORT.get(p["kind"], p["kind"])),
    Column("DIRECTION", lambda p: ",".join(p["directions"]) or "none"),
    Column("RULES", lambda p: p["rules"], right=True),
    Column("STATUS", lambda p: p["state"]),
    Column("ORIGIN", lambda p: p["origin"], wide=True),
    Column("NOTICES", lambda p: [*filter(None, [p["message"]]), *p["notices"]], wide=True),
]


def run(namespace: Namespace = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the policies in force.

    STATUS is `in-force`; `pending` while the datapath does not have all of it, `error` if it cannot; `partial` if a
    part of it has no effect (-o wide says which); `stale` if the object is now bad and its last good version stays in
    force. Objects that never were good are among the problems of `ciliumpy status`.
    """
    items, errors = listing(target.select(lab, node), "/v1/policies")
    show(
        "PolicyList",
        [p for p in items if namespace in (None, p["namespace"])],
        COLUMNS,
        output,
        name=full_name,
        sort=lambda p: (p["namespace"], p["name"], p["kind"]),
        errors=errors,
        empty="No policies found: every endpoint is open.",
    )


def full_name(policy: Item) -> str:
    return f"{policy['namespace']}/{policy['name']}" if policy["namespace"] else str(policy["name"])
