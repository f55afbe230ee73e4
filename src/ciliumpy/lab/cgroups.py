# SPDX-License-Identifier: Apache-2.0
"""Groups of processes: how the lab finds, counts and ends what it started, whatever those have forked."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEADLINE_S = 10.0


def make(group: Path) -> None:
    try:
        group.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise CiliumpyError(
            f"cannot make the cgroup {group}: {error.strerror}", "see that cgroup v2 is mounted writable"
        ) from error


def enter(group: Path) -> None:
    """Move the calling process into the group."""
    (group / "cgroup.procs").write_text("0")


def pids(group: Path) -> list[int]:
    """Return the processes in the group and below it, as this process's PID namespace numbers them."""
    found: list[int] = []
    for each in _groups(group):
        with suppress(OSError):
            found += [int(pid) for pid in (each / "cgroup.procs").read_text().split()]
    return sorted(pid for pid in found if pid)


def kill(group: Path) -> None:
    """End every process in the group and below with SIGKILL, and wait until the kernel has let go of them."""
    if not group.is_dir():
        return
    deadline = time.monotonic() + _DEADLINE_S
    try:
        (group / "cgroup.kill").write_text("1")
    except OSError:  # before Linux 5.14
        for pid in pids(group):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    while populated(group):
        if time.monotonic() > deadline:
            raise CiliumpyError(f"processes of {group} do not end: {pids(group)}", "look at them with ps")
        time.sleep(0.005)


def populated(group: Path) -> bool:
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except OSError:
        return False


def remove(group: Path) -> None:
    """End what runs in the group and remove it with all below it. What is missing is no error."""
    kill(group)
    for each in reversed(list(_groups(group))):
        with suppress(FileNotFoundError):
            each.rmdir()


def _groups(group: Path) -> Iterator[Path]:
    """Yield the group and all below it, parents first."""
    if not group.is_dir():
        return
    yield group
    with suppress(FileNotFoundError):
        for child in sorted(group.iterdir()):
            if child.is_dir():
                yield from _groups(child)
