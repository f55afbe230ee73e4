# SPDX-License-Identifier: Apache-2.0
"""The first process of a pod: starts its containers, keeps them running as `restartPolicy` says, writes their log.

A container with a command is executed; one without is an echo server in a forked child, so that a hundred of them cost
one interpreter. The log is bounded: a pod cannot fill the machine.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from ciliumpy.lab import containers as states
from ciliumpy.lab import privileges
from ciliumpy.lab.echo import EchoServer, Port
from ciliumpy.lab.sandbox import ENVIRONMENT

_LONGEST_LOG = 1 << 20
_LONGEST_PAUSE_S = 60.0


class Container(NamedTuple):
    name: str
    command: list[str]  # empty: echo server
    environment: dict[str, str]
    directory: str
    ports: list[Port]

    @classmethod
    def of(cls, request: dict[str, Any]) -> Container:
        ports = [Port(p["protocol"], p["port"]) for p in request["ports"]]
        return cls(request["name"], request["command"], request["env"], request["workingDir"], ports)


class Init:
    """Runs as PID 1 of the pod; `run` returns when no container is left to run."""

    def __init__(self, pod: str, containers: list[Container], restart: str, log_fd: int, state_fd: int) -> None:
        self._pod = pod
        self._restart = restart
        self._log_fd = log_fd
        self._state_fd = state_fd
        self._slots = [_Slot(container) for container in containers]
        self._due = dict.fromkeys(self._slots, 0.0)
        self._running: dict[int, _Slot] = {}
        self._output, self._input = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output, False)
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> NoReturn:
        while True:
            self._start_due()
            pause = min(self._due.values(), default=None)
            timeout = None if pause is None else max(0.0, pause - time.monotonic())
            ready, _, _ = select.select([self._output, self._wake], [], [], timeout)
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._output in ready:
                self._write(os.read(self._output, 65536))
            self._reap()

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in [s for s, at in self._due.items() if at <= now]:
            del self._due[slot]
            told, telling = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
            if pid == 0:
                os.close(told)
                _become(slot.container, self._pod, self._input, telling)
            os.close(telling)
            self._running[pid] = slot
            # Ends when it is executed, or serves: the pipe is closed then.
            slot.state.fault = os.read(told, 1024).decode(errors="replace")
            os.close(told)
            slot.state.state, slot.state.since = "running", time.monotonic()
            self._tell()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = self._running.pop(pid, None)
            if slot is None:  # an orphan of the pod
                continue
            code = os.waitstatus_to_exitcode(status)
            ended = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            now = time.monotonic()
            slot.state.code = code
            if self._restart == "Never" or (self._restart == "OnFailure" and code == 0):
                slot.state.state = "ended"
                self._tell()
                self._say(f"container {slot.container.name} {ended}")
                continue
            steady = now - slot.state.since > states.STEADY_S
            slot.state.state, slot.state.early = "waiting", 0 if steady else slot.state.early + 1
            self._tell()
            slot.pause = 1.0 if steady else min(slot.pause * 2, _LONGEST_PAUSE_S)
            self._say(f"container {slot.container.name} {ended}; it is started again in {slot.pause:g} s")
            self._due[slot] = now + slot.pause

    def _tell(self) -> None:
        """Write down how the containers are: one line, of which a reader takes all or, rarely, nothing."""
        with suppress(OSError):
            line = states.encode([slot.state for slot in self._slots])
            os.pwrite(self._state_fd, line, 0)
            os.ftruncate(self._state_fd, len(line))

    def _say(self, line: str) -> None:
        self._write(f"[pod] {line}\n".encode())

    def _write(self, data: bytes) -> None:
        with suppress(OSError):
            size = os.fstat(self._log_fd).st_size
            if size + len(data) > _LONGEST_LOG:
                kept = os.pread(self._log_fd, _LONGEST_LOG // 2, size - _LONGEST_LOG // 2)
                os.ftruncate(self._log_fd, 0)
                os.write(self._log_fd, kept[kept.find(b"\n") + 1 :])
            os.write(self._log_fd, data)


class _Slot:
    """A container and when it may run next. Compared by identity."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.state = states.Container(container.name, command=bool(container.command))
        self.pause = 0.5


def _become(container: Container, pod: str, output: int, telling: int) -> NoReturn:
    """Be the container, in a forked child. `telling` takes why it cannot be, and is closed when it is."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, telling)
        os.closerange(telling + 1, os.sysconf("SC_OPEN_MAX"))
        os.setsid()
        privileges.drop()
        if container.command:
            environment = {**ENVIRONMENT, "HOSTNAME": pod, **container.environment}
            os.chdir(container.directory)
            os.execvpe(container.command[0], container.command, environment)
        elif container.ports:
            server = EchoServer(pod, container.ports)
            os.close(telling)
            server.run()
        else:
            os.close(telling)
            signal.pause()
    except OSError as error:
        what = container.command[0] if container.command else "echo server"
        why = f"{what}: {error.strerror}"
        if error.filename == container.directory:
            why = f"workingDir {container.directory}: {error.strerror}"
        with suppress(OSError):
            os.write(telling, why.encode(errors="replace")[:1024])
        sys.stderr.write(f"{why}\n")
    os._exit(127)
