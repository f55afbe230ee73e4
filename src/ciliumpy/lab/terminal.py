# SPDX-License-Identifier: Apache-2.0
"""A terminal in a pod, connected to the caller's: job control, Ctrl-C and resizing work there as they do here.

The command cannot use the caller's terminal itself: a terminal's jobs are process groups, and those of another PID
namespace have no number in the pod. So it gets one of the pod's own, whose other end is handed out to the caller.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import termios
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_STDIN, _STDOUT = 0, 1
_SIZE = b"\0" * 8  # struct winsize
_CHUNK = 65536


def exit_code(status: int) -> int:
    """Return what a shell makes of a wait status: the exit code, 128 + n for signal n."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def take(caller: socket.socket) -> None:
    """Make a new terminal the calling process's own, in a session of its own, and hand its other end to the caller."""
    master, slave = os.openpty()
    socket.send_fds(caller, [b"t"], [master])
    os.close(master)
    caller.recv(1)  # it has the right size now
    caller.close()
    os.login_tty(slave)


def relay(child: int, caller: socket.socket) -> int:
    """Carry bytes between this terminal and the child's until the child ends; return its exit code.

    A signal that ends this process ends the child too: its terminal is gone.
    """
    master = _received(caller)
    if master is None:  # it has said why, and ended
        return exit_code(os.waitpid(child, 0)[1])
    ended = os.pidfd_open(child)
    try:
        with _raw(), _signals() as (wake, seen):
            _copy_size(master)
            caller.send(b"g")
            _carry(master, ended, wake, seen)
            for number in seen & {signal.SIGTERM, signal.SIGHUP}:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return 128 + number
    finally:
        os.close(ended)
        os.close(master)
    return exit_code(os.waitpid(child, 0)[1])


def _received(caller: socket.socket) -> int | None:
    _, descriptors, _, _ = socket.recv_fds(caller, 1, 1)
    return descriptors[0] if descriptors else None


def _carry(master: int, ended: int, wake: int, seen: set[int]) -> None:
    """Return when the child has ended and all it wrote is here, or when a signal wants an end."""
    sources = {_STDIN, master, ended, wake}
    while True:
        ready, _, _ = select.select(sources, [], [])
        if wake in ready:
            os.read(wake, _CHUNK)
            if seen & {signal.SIGTERM, signal.SIGHUP}:
                return
            _copy_size(master)
        if _STDIN in ready:
            typed = os.read(_STDIN, _CHUNK)
            if typed:
                _write(master, typed)
            else:
                sources.discard(_STDIN)
        if master in ready and not _forward(master):
            sources.discard(master)
        if ended in ready:
            while select.select([master], [], [], 0)[0] and _forward(master):
                continue
            return


def _forward(master: int) -> bool:
    """Write out what is there; False when nothing more will come: nobody has the other end open."""
    try:
        data = os.read(master, _CHUNK)
    except OSError:
        return False
    _write(_STDOUT, data)
    return bool(data)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _copy_size(master: int) -> None:
    with suppress(OSError):
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(_STDIN, termios.TIOCGWINSZ, _SIZE))


@contextmanager
def _raw() -> Iterator[None]:
    """Have this terminal hand on what is typed as it is; as it was at the end."""
    before = termios.tcgetattr(_STDIN)
    tty.setraw(_STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


@contextmanager
def _signals() -> Iterator[tuple[int, set[int]]]:
    """Give a descriptor that can be read when a signal came, and the set of those that came."""
    seen: set[int] = set()

    def note(number: int, _: FrameType | None) -> None:
        seen.add(number)

    wake, waking = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    numbers = [signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP]
    before = {n: signal.signal(n, note) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    old = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    try:
        yield wake, seen
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake)
        os.close(waking)
