# SPDX-License-Identifier: Apache-2.0
"""How a pod's containers are, as its first process writes it down: a pod's word, read with care."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STEADY_S = 10.0  # a container that ran so long starts well; one that ends sooner may be in a loop
MOST_BYTES = 65536
_LONGEST_MESSAGE = 300
_HOLDS_S = 0.5  # a program that is going to fail at once has done so by then
_LOOPS = 3  # so many ends in a row are no chance


class Container(msgspec.Struct):
    """`state` is running, waiting (to be started again) or ended; `fault` says why it could not be started at all."""

    name: str
    state: str = "running"
    command: bool = False  # a program, not the echo server
    since: float = 0.0  # CLOCK_MONOTONIC of its last start, in seconds
    early: int = 0  # how often in a row it ended within STEADY_S
    code: int = 0  # of its last end; -n: signal n
    fault: str = ""


class Health(NamedTuple):
    """A running pod's phase: Starting, Running, Completed, Error or CrashLoopBackOff.

    `settled`: waiting longer will not make a better one of it. `failed`: neither will it get well.
    """

    phase: str
    message: str = ""
    settled: bool = True
    failed: bool = False


def encode(containers: Sequence[Container]) -> bytes:
    return msgspec.json.encode(containers) + b"\n"


def read(path: Path) -> Health:
    """Return how the pod is. A pod of which nothing is known runs."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return Health("Running")
    try:
        line = os.pread(fd, MOST_BYTES, 0).partition(b"\n")[0]
    finally:
        os.close(fd)
    try:
        found = msgspec.json.decode(line, type=list[Container])
    except (msgspec.DecodeError, ValueError):  # empty: it is about to be written
        return Health("Starting", settled=False)
    return judge(found, time.monotonic())


def judge(containers: Sequence[Container], now: float) -> Health:
    """PURE: the worst of the containers decides."""
    each = [_one(container, now) for container in containers]
    for phase in ("CrashLoopBackOff", "Error"):
        bad = [health for health in each if health.phase == phase]
        if bad:
            message = "; ".join(h.message for h in bad)[:_LONGEST_MESSAGE]
            return Health(phase, message, any(h.settled for h in bad), any(h.failed for h in bad))
    if each and all(h.phase == "Completed" for h in each):
        return Health("Completed")
    return Health("Running", settled=all(h.settled for h in each))


def _one(container: Container, now: float) -> Health:
    ran = now - container.since
    name = _printable(container.name)
    if container.fault:
        why = f"container {name} cannot be started: {_printable(container.fault)}"
        return Health("Error" if container.state == "ended" else "CrashLoopBackOff", why, failed=True)
    if container.state == "ended" and container.code == 0:
        return Health("Completed")
    how = f"signal {-container.code}" if container.code < 0 else f"exit code {container.code}"
    if container.state == "ended":
        return Health("Error", f"container {name} ended with {how}", failed=True)
    if container.early and (container.state == "waiting" or ran < STEADY_S):
        times = f", {container.early} times in a row" if container.early > 1 else ""
        failed = container.early >= _LOOPS
        return Health("CrashLoopBackOff", f"container {name} ends with {how}{times}", failed, failed)
    return Health("Running", settled=not container.command or ran >= _HOLDS_S)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
