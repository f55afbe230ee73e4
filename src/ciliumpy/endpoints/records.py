# SPDX-License-Identifier: Apache-2.0
"""Endpoints on disk: one JSON file each, so that a restart keeps every number."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

import msgspec

from ciliumpy.tables.endpoints import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True):
    """What is kept of an endpoint: its row, and where it was plugged in."""

    endpoint: Endpoint
    netns: str = ""  # path, for messages
    uid: str = ""  # of the pod


class Records:
    """The folder of records, for any thread. Written by a rename; a damaged file is set aside, not fatal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def load(self) -> list[Record]:
        """Return all records by id. A damaged one is renamed to `*.damaged` and logged."""
        records = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                records.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except (OSError, msgspec.DecodeError) as error:
                _log.warning("endpoint record %s is damaged and set aside: %s", path, error)
                path.rename(path.with_suffix(".damaged"))
        return sorted(records, key=lambda record: record.endpoint.id)

    def save(self, record: Record) -> None:
        path = self._path(record.endpoint.id)
        temporary = path.with_suffix(".tmp")
        with self._lock:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(record))
            temporary.replace(path)

    def save_all(self, records: Iterable[Record]) -> None:
        for record in records:
            self.save(record)

    def remove(self, endpoint_id: int) -> None:
        with self._lock:
            self._path(endpoint_id).unlink(missing_ok=True)

    def _path(self, endpoint_id: int) -> Path:
        return self._folder / f"{endpoint_id}.json"
