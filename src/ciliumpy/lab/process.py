# SPDX-License-Identifier: Apache-2.0
"""Starts the lab's own long-running processes: in a cgroup, in a namespace, with a log, outliving who started them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import cgroups
from ciliumpy.net import libc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOG_TAIL = 12


def start(module: str, arguments: Sequence[str], *, group: Path, log: Path, netns: int | None = None) -> int:
    """Run `python -m module arguments` and return its PID. `log` is appended to."""
    cgroups.make(group)

    def enter() -> None:
        cgroups.enter(group)
        if netns is not None:
            libc.setns(netns, libc.CLONE_NEWNET)

    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # Safe: whoever calls this has no other threads when it forks.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            cwd="/",
            start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CiliumpyError(f"cannot start {module}: {error}", f"its log is {log}") from error
    finally:
        os.close(fd)
    process.returncode = 0  # it is not waited for: it outlives this process
    return process.pid


def tail(log: Path) -> str:
    """Return the last lines of a log, to be shown with an error."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])
