# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy wait`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Node
from ciliumpy.cli.policy.delete import key_of_name
from ciliumpy.cli.policy.import_ import Timeout
from ciliumpy.cli.policy.through import say_late, seconds, wait
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError

What = Annotated[
    str | None,
    typer.Argument(metavar="[[KIND/][NAMESPACE/]NAME|N]", help="A policy; or a revision. None: all of them."),
]
Revision = Annotated[int | None, typer.Option("--revision", metavar="N", help="Until this revision is in force.")]
Gone = Annotated[bool, typer.Option("--gone", help="Until the policy is no more in force.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Where NAME says none.")]


def run(
    what: What = None,
    revision: Revision = None,
    gone: Gone = False,
    timeout: Timeout = "60s",
    namespace: Namespace = "default",
    lab: Lab = None,
    node: Node = None,
) -> None:
    """Wait until policies are in force on all nodes, alike: one, or all that the agents know.

    Exit code 1 if they are not in time, with a line for each node and policy that says why; an agent that does not
    answer is one of them. A revision is a count that each agent keeps for itself, see `ciliumpy status`.
    """
    timeout_s = seconds(timeout)
    targets = target.select(lab, node)
    if what is not None and what.isdecimal() and revision is None:
        revision, what = int(what), None
    if (what is not None and revision is not None) or (gone and what is None):
        raise CiliumpyError("say one of NAME, NAME --gone, --revision N, or nothing", exit_code=2)
    asked: dict[str, Any] = {"all": True}
    if revision is not None:
        asked = {"revision": revision}
    elif what is not None:
        asked = {"items": [{**named(targets, what, namespace, gone=gone), "gone": gone}]}
    late, silent = wait(lambda: target.select(lab, node), asked, timeout_s, patient=True)
    if late or silent:
        sys.stderr.write(
            f"Error: not in force on {len({each.node for each in (*late, *silent)})} of {len(targets)} nodes\n"
        )
        say_late([*silent, *late])
        raise typer.Exit(1)


def named(targets: list[target.Target], what: str, namespace: str, *, gone: bool) -> dict[str, str]:
    """Return the policy meant. One that no agent has yet must be named whole, or it could be of any kind."""
    try:
        return key_of_name(targets, what, namespace)
    except CiliumpyError as error:
        if error.exit_code == 2 or not gone:
            raise
        raise typer.Exit(0) from None
