# SPDX-License-Identifier: Apache-2.0
"""The agent's folders: a lock, so that there is one agent, and `agent.json`, by which commands find it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ciliumpy import __version__
from ciliumpy.bpf.pins import mounted
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ciliumpy.daemon.config import AgentConfig

ADMIN_SOCKET, HUBBLE_SOCKET, CNI_SOCKET = "agent.sock", "hubble.sock", "cni.sock"


@contextlib.contextmanager
def prepared(config: AgentConfig) -> Iterator[None]:
    """Make the folders and hold the lock. CiliumpyError: another agent has it, or a folder cannot be made."""
    for folder in (config.run, config.state):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CiliumpyError(f"cannot make the folder {folder}: {error.strerror}", "run the agent as root") from None
    with _locked(config.run / "agent.lock"):
        mounted()
        try:
            yield
        finally:
            (config.run / "agent.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CiliumpyError(f"cannot open {path}: {error.strerror}", "run the agent as root") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise CiliumpyError(f"another agent holds {path}", "there is one agent a run folder: stop it first") from None
    try:
        yield
    finally:
        os.close(fd)


def announce(config: AgentConfig, started_ns: int) -> None:
    """Write `agent.json`: the sockets listen now. CiliumpyError if it cannot be written."""
    started = datetime.fromtimestamp(started_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    body = {
        "node": config.name,
        "cluster": config.node.cluster,
        "lab": config.node.lab,
        "pid": os.getpid(),
        "version": __version__,
        "adminSocket": str(config.run / ADMIN_SOCKET),
        "hubbleSocket": str(config.run / HUBBLE_SOCKET),
        "bpffs": str(config.bpffs),
        "startedAt": started.replace("+00:00", "Z"),
    }
    temporary = config.run / "agent.json.tmp"
    try:
        temporary.write_text(json.dumps(body, indent=2) + "\n")
        temporary.replace(config.run / "agent.json")
    except OSError as error:
        raise CiliumpyError(
            f"cannot write {config.run}/agent.json: {error.strerror}", "make room, and start again"
        ) from None
