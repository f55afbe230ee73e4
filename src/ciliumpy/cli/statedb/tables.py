# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy statedb tables`."""

from __future__ import annotations

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target

COLUMNS = [
    Column("NAME", lambda t: t["name"]),
    Column("ROWS", lambda t: t["rows"], right=True),
    Column("REVISION", lambda t: t["revision"], right=True),
    Column("PENDING", lambda t: t["status"].get("pending", "-"), right=True),
    Column("DONE", lambda t: t["status"].get("done", "-"), right=True),
    Column("ERROR", lambda t: t["status"].get("error", "-"), right=True),
    Column("INDEXES", lambda t: ",".join(t["indexes"]), wide=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the agent's tables: rows, revision of the last change, and how far reconciled tables are."""
    items, errors = listing(target.select(lab, node), "/v1/statedb")
    show("TableList", items, COLUMNS, output, name=lambda t: str(t["name"]), sort=lambda t: t["name"], errors=errors)
