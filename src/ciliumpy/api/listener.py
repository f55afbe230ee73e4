# SPDX-License-Identifier: Apache-2.0
"""A unix socket of the agent: bound, private, and gone in the end."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACKLOG = 1024  # a node's pods all at once; the kernel may make it less (net.core.somaxconn)


@contextlib.contextmanager
def listener(path: Path) -> Iterator[socket.socket]:
    """Listen on a unix socket that only its owner may open, and remove it afterwards.

    A socket that a dead agent left is replaced; CiliumpyError if a living one listens.
    """
    if path.exists():
        if _answers(path):
            raise CiliumpyError(f"another agent listens on {path}", "stop it first")
        try:
            path.unlink()
        except OSError as error:
            raise CiliumpyError(f"cannot replace {path}: {error.strerror}", "remove it") from error
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
