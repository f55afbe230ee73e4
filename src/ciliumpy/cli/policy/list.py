# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy list`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ciliumpy.cli.options import Lab, Namespace, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.cli.policy.naming import typed_name
from ciliumpy.cli.query import listing
from ciliumpy.client import target
from ciliumpy.client.target import Target
from ciliumpy.model.policy_kinds import SHORT

COLUMNS = [
    Column("NAMESPACE", lambda p: p["namespace"] or "-"),
    Column("NAME", lambda p: p["name"]),
    Column("KIND", lambda p: SHORT.get(p["kind"], p["kind"])),
    Column("DIRECTION", lambda p: ",".join(p["directions"]) or "none"),
    Column("RULES", lambda p: p["rules"], right=True),
    Column("ENDPOINTS", lambda p: len(p["endpoints"]), right=True),
    Column("STATUS", lambda p: p["state"]),
    Column("ORIGIN", lambda p: p["origin"], wide=True),
    Column("NOTICES", lambda p: [*filter(None, [p["message"]]), *p["notices"]], wide=True),
]


def run(namespace: Namespace = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the policies in force, of all kinds.

    ENDPOINTS is how many of the node's a policy selects. STATUS is `in-force`; `pending` while the datapath does not
    have all of it, `error` if it cannot; `partial` if a part of it has no effect (-o wide says which); `stale` if the
    object is now bad and its last good version stays in force. Objects that never were good are among the problems of
    `ciliumpy status`.

    -o yaml prints the objects as they were written, as one agent has them in force: `policy import -` takes them.
    """
    if output == "yaml":
        manifests(target.select(lab, node), lambda key: namespace in (None, key[1]))
        return
    items, errors = listing(target.select(lab, node), "/v1/policies")
    show(
        "PolicyList",
        [p for p in items if namespace in (None, p["namespace"])],
        COLUMNS,
        output,
        name=typed_name,
        alone=True,
        sort=lambda p: (p["namespace"], p["name"], p["kind"]),
        errors=errors,
        empty=f"No policies found in namespace {namespace}." if namespace else "No policies found.",
    )


def manifests(targets: Sequence[Target], wanted: Callable[[tuple[str, str, str]], bool]) -> int:
    """Print the objects that are wanted by kind, namespace and name, as one agent has them; return how many."""
    from ciliumpy.cli.policy.through import through_any
    from ciliumpy.model.documents import dump

    found = []
    for document in through_any(targets, lambda client: client.get("/v1/objects"))["items"]:
        metadata = document["metadata"]
        if wanted((document["kind"], metadata.get("namespace", ""), metadata["name"])):
            found.append(document)
    if found:
        sys.stdout.write(dump(*found).decode())
    return len(found)
