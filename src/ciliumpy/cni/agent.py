# SPDX-License-Identifier: Apache-2.0
"""The conversation with the agent: a line and a descriptor there, a line back; and the queue for when it is down."""

from __future__ import annotations

import _socket  # `socket` brings `selectors` and `enum`: three milliseconds
import errno
import os
import sys

from ciliumpy.cni import jsondoor
from ciliumpy.cni.protocol import INTERNAL, INVALID_CONFIG, IO_FAILURE, TRY_AGAIN_LATER, CniError, Config, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANSWER_TIMEOUT_S = 30.0  # the agent itself gives up after 25
_LONGEST_ANSWER = 1 << 20
_DOWN = {errno.ENOENT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.EAGAIN}


class AgentDownError(CniError):
    """Nobody listens, or nobody answered: later it may work."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            TRY_AGAIN_LATER,
            f"the agent does not answer at {path}: {why}",
            "start the agent (`ciliumpy status` says how it is); the runtime will try again",
        )


def ask(path: str, message: bytes, fd: int | None, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
    """Send `message`, with the descriptor if there is one, to the agent's socket; return its result."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # Blocking: where many wait to be heard this waits too, and EAGAIN says that it was in vain.
        connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _timeval(timeout_s))
        connection.connect(path)
        connection.settimeout(timeout_s)
        sent = connection.sendmsg([message], [] if fd is None else [_passed(fd)])
        if sent < len(message):  # even an empty write fails once the agent has answered and hung up
            connection.sendall(message[sent:])
        line = _read_line(connection)
    except TimeoutError as error:
        raise AgentDownError(path, f"no answer within {timeout_s:g} s") from error
    except OSError as error:
        if error.errno in _DOWN:
            raise AgentDownError(path, error.strerror or str(error)) from error
        if error.errno is None:  # raised by Python itself: the path is longer than a socket's can be
            raise CniError(INVALID_CONFIG, f"agentSocket {path!r} is not valid: {error}") from error
        raise CniError(IO_FAILURE, f"cannot talk to the agent at {path}: {error.strerror}") from error
    finally:
        connection.close()
    return _result(path, line)


def _timeval(seconds: float) -> bytes:
    """Return a struct timeval."""
    return int(seconds).to_bytes(8, sys.byteorder) + int(seconds % 1 * 1e6).to_bytes(8, sys.byteorder)


def _passed(fd: int) -> tuple[int, int, bytes]:
    return _socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder)


def _read_line(connection: _socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = connection.recv(65536)
        if not part or len(received) > _LONGEST_ANSWER:
            break
        received += part
    return bytes(received)


def _result(path: str, line: bytes) -> dict[str, Any]:
    if not line:
        raise AgentDownError(path, "it closed the connection")
    try:
        answer = jsondoor.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise CniError(int(error["code"]), str(error["msg"]), str(error.get("details", "")))
        result = answer["result"] or {}
    except (ValueError, TypeError, KeyError) as error:
        raise CniError(INTERNAL, f"the agent's answer at {path} cannot be read", repr(error)) from error
    if not isinstance(result, dict):
        raise CniError(INTERNAL, f"the agent's answer at {path} cannot be read", "the result is not an object")
    return result


def delete(config: Config, request: Request, fd: int | None, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """Have the agent delete the interface, or queue that for its next start; return what was done, for the log."""
    path, message = config.agent_socket, request.message("DEL", config)
    try:
        ask(path, message, fd, timeout_s)
    except AgentDownError as down:
        queued = _queue(path, request, message)
        try:
            # It may have started, and read the queue, in between.
            ask(path, message, fd, 1.0)
        except AgentDownError:
            return f"queued in {queued}: {down.message}"
        _remove(queued)
    return "deleted"


def _queue(path: str, request: Request, message: bytes) -> str:
    folder = os.path.join(os.path.dirname(path), "cni-deletes")
    target = os.path.join(folder, f"{request.container_id}-{request.ifname}.json")
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, message) < len(message):  # half a message would be dropped as damaged
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        raise CniError(
            IO_FAILURE, f"the agent is down and the deletion cannot be queued in {folder}: {error.strerror}"
        ) from error
    return target


def _remove(path: str) -> None:
    """Remove a file. One that was never made, or that the agent was faster with, is no error."""
    try:  # noqa: SIM105 - `contextlib` would be one more import
        os.unlink(path)
    except OSError:
        pass
