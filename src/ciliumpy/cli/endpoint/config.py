# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy endpoint config`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.endpoint.get import find
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import show_one
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError

Which = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="4, n1:4, shop/api-1, ipv4:10.244.0.7, container-id:4f2a…")
]
Option = Annotated[
    str | None,
    typer.Argument(metavar="[OPTION=VALUE]", help="PolicyAuditMode=Enabled, =Disabled, or =Default: as the agent's."),
]

OPTION = "PolicyAuditMode"
VALUES = {
    **dict.fromkeys(("enabled", "enable", "true"), "Enabled"),
    **dict.fromkeys(("disabled", "disable", "false"), "Disabled"),
    "default": "Default",
}


def run(which: Which, option: Option = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show an endpoint's options, or change one. It is in force when the command returns, and kept over restarts.

    With PolicyAuditMode what policy denies to or from this endpoint passes, and is told of: `ciliumpy observe --verdict
    AUDIT` shows what would be dropped. When the mode ends, living connections that policy forbids are cut.
    """
    value = None if option is None else parse(option)
    home, found = find(which, lab, node, "config")
    client, path = AdminClient.of(home), f"/v1/endpoints/{found['id']}"
    answer = client.get(path) if value is None else client.put(f"{path}/config", {OPTION: value})
    options = {"node": home.node, "id": answer["id"], "options": answer["options"]}
    show_one("EndpointConfig", options, list(answer["options"].items()), output, name=str(answer["id"]))


def parse(option: str) -> str:
    """Return the value of `PolicyAuditMode=VALUE`. CiliumpyError (2): another option, or no such value."""
    name, equals, text = option.partition("=")
    if name.lower() != OPTION.lower():
        raise CiliumpyError(f"endpoints have no option {name!r}", f"there is {OPTION}", 2)
    if not equals or text.lower() not in VALUES:
        raise CiliumpyError(f"{OPTION} cannot be {text!r}", "Enabled, Disabled or Default", 2)
    return VALUES[text.lower()]
