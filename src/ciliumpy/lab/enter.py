# SPDX-License-Identifier: Apache-2.0
"""Runs a command inside a pod: all its namespaces, its cgroup, its privileges; or inside a node's network namespace."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import cgroups, privileges
from ciliumpy.lab.sandbox import ENVIRONMENT, NAMESPACES
from ciliumpy.net import libc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_PASSED_ON = ("TERM", "LANG", "LC_ALL", "COLUMNS", "LINES")


def run_in_pod(pid: int, group: Path, hostname: str, command: Sequence[str]) -> int:
    """Run `command` beside the pod's first process `pid` and return its exit code (128 + n: ended by signal n)."""
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
    helper = os.fork()
    if helper == 0:
        _enter(handle, group, hostname, command)
    os.close(handle)
    return _wait(helper)


def _wait(child: int) -> int:
    """Wait for it; the terminal's signals are the child's own business, others are passed on."""
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGQUIT)}
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _enter(handle: int, group: Path, hostname: str, command: Sequence[str]) -> NoReturn:
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        privileges.close_to_others()
        cgroups.enter(group)
        libc.setns(handle, NAMESPACES | libc.CLONE_NEWNET)
        os.chdir("/")
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        child = os.fork()  # the first that is in the pod's PID namespace
        if child != 0:
            os._exit(_wait(child))
        _execute(hostname, command)
    except OSError as error:
        sys.stderr.write(f"Error: cannot enter the pod: {error}\n")
        sys.stderr.flush()
    os._exit(1)


def _execute(hostname: str, command: Sequence[str]) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    privileges.drop()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    passed = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    try:
        os.execvpe(command[0], list(command), {**ENVIRONMENT, "HOSTNAME": hostname, **passed})
    except OSError as error:
        sys.stderr.write(f"Error: cannot run {command[0]!r} in the pod: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)
