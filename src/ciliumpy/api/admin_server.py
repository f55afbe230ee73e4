# SPDX-License-Identifier: Apache-2.0
"""Serves the admin API on a unix socket, inside the agent's event loop."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

from ciliumpy.api.admin import AdminContext, application
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BACKLOG = 64


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the agent has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(context: AdminContext, path: Path, listening: Callable[[], None] = lambda: None) -> None:
    """Answer on `path` until cancelled; then the socket is gone.

    `listening` is called as soon as clients can connect. Raises CiliumpyError if another agent listens there.
    """
    server = Server(
        uvicorn.Config(
            application(context),
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    with listener(path) as own:
        try:
            listening()
            await server.serve(sockets=[own])
        finally:
            if server.started:
                # Cancelled. A stream has no end of its own to wait for: hang up, which ends its generator.
                for connection in list(server.server_state.connections):
                    connection.transport.close()
                await server.shutdown(sockets=[own])


@contextlib.contextmanager
def listener(path: Path) -> Iterator[socket.socket]:
    """Listen on a unix socket that only its owner may open, and remove it afterwards.

    A socket that a dead agent left is replaced; CiliumpyError if a living one listens.
    """
    if path.exists():
        if _answers(path):
            raise CiliumpyError(f"another agent listens on {path}", "stop it first")
        path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        try:
            own.bind(str(path))
            path.chmod(0o600)  # before listen(): until then nobody can connect
            own.listen(BACKLOG)
        except OSError as error:
            raise CiliumpyError(f"cannot listen on {path}: {error.strerror}") from error
        own.setblocking(False)
        inode = path.stat().st_ino
        try:
            yield own
        finally:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
