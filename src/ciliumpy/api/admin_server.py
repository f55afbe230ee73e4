# SPDX-License-Identifier: Apache-2.0
"""Serves the admin API on a unix socket, inside the agent's event loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import uvicorn

from ciliumpy.api.admin import AdminContext, application
from ciliumpy.api.listener import listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
