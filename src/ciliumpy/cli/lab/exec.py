# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab exec`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.lab.tty import Tty, wants_terminal
from ciliumpy.cli.options import Lab

CONTEXT = {"ignore_unknown_options": True}

Pod = Annotated[str, typer.Argument(metavar="[NAMESPACE/]POD", help="A pod, or a Deployment: its first running pod.")]
Command = Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGUMENT...]", help="What to run.")]
Stdin = Annotated[bool, typer.Option("--stdin", "-i", help="As kubectl has it: input is passed in any case.")]


def run(pod: Pod, command: Command, stdin: Stdin = False, tty: Tty = False, lab: Lab = None) -> None:  # noqa: ARG001
    """Run a command in a pod: in all its namespaces, its cgroup, with its privileges.

    The exit code is the command's; 128 + n if signal n ended it.
    """
    from ciliumpy.lab import enter, machine, place, records, runtime

    machine.need_root()
    where = place.only_lab(lab)
    record = records.find(where, pod)
    group = runtime.pod_cgroup(where, record.node, record.container_id)
    raise typer.Exit(enter.run_in_pod(record.pid, group, record.hostname, command, tty=tty and wants_terminal()))
