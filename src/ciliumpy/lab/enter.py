# SPDX-License-Identifier: Apache-2.0
"""Runs a command inside a pod: in its namespaces, its cgroup, its privileges; on request with a terminal of its own."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import cgroups, privileges, terminal
from ciliumpy.lab.sandbox import ENVIRONMENT, NAMESPACES
from ciliumpy.net import libc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIZE = ("COLUMNS", "LINES")  # a terminal of its own tells them itself, and they change
_PASSED_ON = ("TERM", "LANG", "LC_ALL", *_SIZE)


def run_in_pod(
    pid: int,
    group: Path,
    hostname: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    tty: bool = False,
) -> int:
    """Run `command` beside the pod's first process `pid` and return its exit code (128 + n: ended by signal n).

    With `tty` it has a terminal of the pod's own, to which standard input, a terminal too, is connected.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise CiliumpyError("the pod's first process has ended", "`ciliumpy lab status` shows the pods") from error
    # The descriptor stays with its process: if the number is still in the pod's cgroup now, it is the right one.
    if pid not in cgroups.pids(group):
        os.close(handle)
        raise CiliumpyError("the pod's first process has ended", "`ciliumpy lab status` shows the pods")
    sys.stdout.flush()
    sys.stderr.flush()
    variables = {**ENVIRONMENT, "HOSTNAME": hostname, **(environment or {})}
    variables |= {k: os.environ[k] for k in _PASSED_ON if k in os.environ and not (tty and k in _SIZE)}
    ours, theirs = socket.socketpair() if tty else (None, None)
    helper = os.fork()
    if helper == 0:
        _enter(handle, group, variables, command, theirs)
    os.close(handle)
    if ours is None or theirs is None:
        return _wait(helper)
    theirs.close()
    with ours:
        return terminal.relay(helper, ours)


def _wait(child: int) -> int:
    """Wait for it; the terminal's signals are the child's own business, others are passed on."""
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGQUIT)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda number, _: os.kill(child, number))
    try:
        return terminal.exit_code(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _enter(
    handle: int, group: Path, environment: Mapping[str, str], command: Sequence[str], caller: socket.socket | None
) -> NoReturn:
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        privileges.close_to_others()
        cgroups.enter(group)
        libc.setns(handle, NAMESPACES | libc.CLONE_NEWNET)
        os.chdir("/")
        kept = caller.fileno() if caller is not None else 3
        os.closerange(3, kept)
        os.closerange(kept + (caller is not None), os.sysconf("SC_OPEN_MAX"))
        child = os.fork()  # the first that is in the pod's PID namespace
        if child != 0:
            if caller is not None:
                caller.close()
            os._exit(_wait(child))
        _execute(environment, command, caller)
    except OSError as error:
        sys.stderr.write(f"Error: cannot enter the pod: {error}\n")
        sys.stderr.flush()
    os._exit(1)


def _execute(environment: Mapping[str, str], command: Sequence[str], caller: socket.socket | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    privileges.drop()
    if caller is not None:
        terminal.take(caller)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        sys.stderr.write(f"Error: cannot run {command[0]!r} in the pod: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)
