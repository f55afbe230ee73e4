# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab run`."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ciliumpy.cli.lab.say import say
from ciliumpy.cli.lab.tty import Tty, wants_terminal
from ciliumpy.cli.options import Lab
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

CONTEXT = {"ignore_unknown_options": True}
_SHELL = ("sh", "-c", "exec $(command -v bash || echo sh)")

Name = Annotated[str, typer.Argument(metavar="[NAMESPACE/]NAME", help="The new pod.")]
Command = Annotated[
    list[str] | None, typer.Argument(metavar="[-- COMMAND [ARGUMENT...]]", help="What to run; attached, else a shell.")
]
Stdin = Annotated[bool, typer.Option("--stdin", "-i", help="Attach: pass standard input to the command.")]
Remove = Annotated[bool, typer.Option("--rm", help="Attach, and delete the pod when the command has ended.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Where NAME says none.")]
OnNode = Annotated[str | None, typer.Option("--node", metavar="NODE", help="Run it on this node.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="KEY=VALUE[,...]", help="Its labels (repeated: all); else run=NAME."),
]
Env = Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Environment (repeated: all).")]
Port = Annotated[
    list[str] | None,
    typer.Option("--port", metavar="PORT[/PROTOCOL]", help="Answer on this port (no COMMAND; repeated: on all)."),
]
Restart = Annotated[
    str, typer.Option("--restart", metavar="Always|OnFailure|Never", help="When COMMAND, not attached, is run again.")
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait until it runs.")]


def run(
    name: Name,
    command: Command = None,
    stdin: Stdin = False,
    tty: Tty = False,
    rm: Remove = False,
    namespace: Namespace = "default",
    node: OnNode = None,
    labels: Labels = None,
    env: Env = None,
    port: Port = None,
    restart: Restart = "Always",
    timeout: Timeout = 30.0,
    lab: Lab = None,
) -> None:
    """Run a command in a new pod, or a pod that answers on its ports.

    With -i, -t or --rm the command is attached to this terminal, and the exit code is its own (128 + n if signal n
    ended it); `-it` is what a shell wants. Otherwise the command is the pod's container, and `lab logs` has what it
    writes.
    """
    from ciliumpy.lab import enter, machine, objects, place, runtime, single

    machine.need_root()
    attached = stdin or tty or rm
    if port and (command or attached):
        raise CiliumpyError("--port is for a pod without a command of its own", "leave out one of the two", 2)
    where = place.only_lab(lab)
    key = objects.key_from("Pod", name, namespace)
    variables = _pairs("--env", env or [])
    made = single.document(
        key,
        node=node,
        labels=_pairs("--labels", [pair for each in labels or [] for pair in each.split(",")]),
        environment=variables,
        ports=[_port(each) for each in port or []],
        command=() if attached else command or (),
        restart="Always" if attached else restart,
    )
    if not attached:
        single.create(where, key, made)
        sys.stdout.write(f"{key} created\n")
        sys.stdout.flush()
        single.wait_running(where, key, timeout)
        return
    terminal = tty and wants_terminal()
    if not (stdin or tty):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (signal.SIGTERM, signal.SIGHUP):  # whoever ends this ends the pod too
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    single.create(where, key, made)
    try:
        record = single.wait_running(where, key, timeout)
        group = runtime.pod_cgroup(where, record.node, record.container_id)
        code = enter.run_in_pod(
            record.pid, group, record.hostname, command or _SHELL, environment=variables, tty=terminal
        )
    finally:
        if rm:
            single.remove(where, key)
            say(f"{key} deleted")
    if not rm:
        say(f"{key} runs on; `ciliumpy lab delete pod {key.namespace}/{key.name}` removes it")
    raise typer.Exit(code)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _pairs(flag: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise CiliumpyError(f"{flag} {each!r}: must be NAME=VALUE", exit_code=2)
        found[name] = value
    return found


def _port(given: str) -> tuple[str, int]:
    number, _, protocol = given.partition("/")
    if not number.isascii() or not number.isdecimal():
        raise CiliumpyError(f"--port {given!r}: must be like 8080 or 53/UDP", exit_code=2)
    return protocol.upper() or "TCP", int(number)
