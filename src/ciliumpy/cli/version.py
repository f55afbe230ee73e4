# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy version`."""

from __future__ import annotations

import ciliumpy
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Problem, Problems, show
from ciliumpy.client import target


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Print the version of this command, and of the agents that run."""
    items: list[dict[str, object]] = [{"component": "ciliumpy", "version": ciliumpy.__version__}]
    errors = Problems(1)
    if lab or node or target.preferred() or len(target.known()) == 1:
        for each in target.select(lab, node):
            if each.running:
                items.append({"component": f"agent {each.node}", "version": each.version})
            else:
                errors.append(Problem(each.node, "the agent is not running"))
    show(
        "VersionList",
        items,
        [Column("COMPONENT", lambda i: i["component"]), Column("VERSION", lambda i: i["version"])],
        output,
        errors=errors if lab or node else None,
        name=lambda i: str(i["component"]),
        sort=lambda i: (i["component"] != "ciliumpy", i["component"]),
    )
