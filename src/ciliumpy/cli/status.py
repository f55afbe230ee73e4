# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ciliumpy.cli import status_text
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Problem, Problems, finish, parse_format, show
from ciliumpy.cli.query import at_once
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.kit.units import parse_duration

POLL_S = 0.2

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also every job, map and the loop's lag.")]
Brief = Annotated[bool, typer.Option("--brief", help="One line: OK, or what is wrong.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until all is well.")]
WaitDuration = Annotated[str, typer.Option("--wait-duration", metavar="TIME", help="How long to wait at most.")]


def run(
    verbose: Verbose = False,
    brief: Brief = False,
    wait: Wait = False,
    wait_duration: WaitDuration = "5m",
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """Show how the agents are. Exit code 1 unless every one of them is well."""
    form = parse_format(output)
    agents, errors = wait_well(lab, node, wait_duration) if wait else collect(lab, node)
    if brief:
        sys.stdout.write(status_text.brief(agents, errors) + "\n")
    elif form.kind in ("text", "wide"):
        full = verbose or form.kind == "wide"
        sys.stdout.write(status_text.text(agents, verbose=full, asked=len(agents) + len(errors)))
        finish(errors)
    else:
        show("StatusList", agents, [], output, name=lambda a: a["node"], sort=lambda a: a["node"], errors=errors)
    if not well(agents, errors):
        raise typer.Exit(1)


def wait_well(lab: str | None, node: str | None, duration: str) -> tuple[list[dict[str, Any]], Problems]:
    """Ask until all is well or the time is up; return the last answers. No agent at all counts as not yet well."""
    try:
        deadline = time.monotonic() + parse_duration(duration)
    except ValueError as error:
        raise CiliumpyError(f"--wait-duration: {error}", exit_code=2) from error
    while True:
        left = time.monotonic() < deadline
        try:
            agents, errors = collect(lab, node)
            if well(agents, errors) or not left:
                return agents, errors
        except CiliumpyError as error:
            if error.exit_code == 2 or not left:
                raise
        time.sleep(POLL_S)


def collect(lab: str | None, node: str | None) -> tuple[list[dict[str, Any]], Problems]:
    """Return what each agent says of itself, sorted by node, and who does not answer."""
    agents: list[dict[str, Any]] = []
    targets = target.select(lab, node)
    errors = Problems(len(targets))
    answers = at_once(targets, lambda each: [AdminClient.of(each).get("/v1/status")])
    for each, answer in zip(targets, answers, strict=True):
        if isinstance(answer, CiliumpyError):
            errors.append(Problem(each.node, answer.message, answer.hint or ""))
        else:
            agents += [{"node": each.node, **said} for said in answer]
    return agents, errors


def well(agents: Sequence[dict[str, Any]], errors: Sequence[Problem]) -> bool:
    return not errors and all(agent["state"] == "ok" for agent in agents)
