# SPDX-License-Identifier: Apache-2.0
"""The loaded parent that pods' first processes are forked from: one interpreter, shared by all pods of a lab.

It reads one JSON line a pod from standard input and answers one: {"pid"} or {"error"}. It ends with its input; the pods
run on.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from ciliumpy.lab import cgroups, privileges, sandbox
from ciliumpy.lab.init import Container, Init
from ciliumpy.net import libc

_PR_SET_CHILD_SUBREAPER = 36
_SETUP_DEADLINE_S = 10.0


def main() -> None:
    # Pods that end are its children, once those between have gone; nobody asks for their exit codes.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"pid": start(json.loads(line))}
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def start(request: dict[str, Any]) -> int:
    """Start a pod and return the machine's number of its first process, once it is furnished."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reading)
        _enter_and_fork(request, writing)
    os.close(writing)
    try:
        received = b""
        while select.select([reading], [], [], _SETUP_DEADLINE_S)[0] and (part := os.read(reading, 4096)):
            received += part
            if received.endswith(b"\n"):
                break
    finally:
        os.close(reading)
    answer = json.loads(received or b'{"error": "it ended while it was set up"}')
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return int(answer["pid"])


def _enter_and_fork(request: dict[str, Any], answer: int) -> NoReturn:
    """Enter cgroup and namespaces; the child that is forked then is the pod's first process."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        privileges.close_to_others()
        os.setsid()
        cgroups.enter(Path(request["cgroup"]))
        log = os.open(request["log"], os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        state = os.open(request["state"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        namespace = os.open(request["netns"], os.O_RDONLY | os.O_CLOEXEC)
        libc.setns(namespace, libc.CLONE_NEWNET)
        os.close(namespace)
        libc.unshare(sandbox.NAMESPACES)
        furnished, ready = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(furnished)
            os.close(answer)
            _first(request, log, state, ready)
        os.close(ready)
        fault = os.read(furnished, 4096).decode(errors="replace")
        os.write(answer, json.dumps({"error": fault} if fault != "ready" else {"pid": pid}).encode() + b"\n")
    except OSError as error:
        os.write(answer, json.dumps({"error": str(error)}).encode() + b"\n")
    os._exit(0)


def _first(request: dict[str, Any], log: int, state: int, ready: int) -> NoReturn:
    try:
        # What the parent has open is none of the pod's business.
        _be_silent()
        kept = sorted({log, state, ready})
        for low, high in zip([2, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        sandbox.furnish(sandbox.View.of(request))
        _be_silent()  # with the pod's own device now
        containers = [Container.of(c) for c in request["containers"]]
        init = Init(request["hostname"], containers, request["restart"], log, state)
        privileges.drop()
        os.write(ready, b"ready")
        os.close(ready)
        init.run()
    except Exception as error:  # noqa: BLE001 - there is no other way to tell
        os.write(ready, f"{type(error).__name__}: {error}".encode())
    os._exit(1)


def _be_silent() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


if __name__ == "__main__":
    main()
