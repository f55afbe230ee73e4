# SPDX-License-Identifier: Apache-2.0
"""Endpoints on disk: one JSON file each, so that a restart keeps every number."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import threading
from typing import TYPE_CHECKING

import msgspec

from ciliumpy.endpoints.allocate import MAX_SLOT
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.endpoints import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

HOST_FILE = "host.record"  # no *.json: it is none of a pod

_log = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True):
    """What is kept of an endpoint: its row, and where it was plugged in."""

    endpoint: Endpoint
    netns: str = ""  # path, for messages
    uid: str = ""  # of the pod
    network: str = ""  # name of the CNI configuration


class HostRecord(msgspec.Struct, frozen=True):
    """What is kept of the host's endpoint: all else it has anew."""

    audit: bool | None = None


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
                records.append(_read(path.read_bytes()))
            except (OSError, ValueError, msgspec.DecodeError) as error:
                _log.warning("endpoint record %s is damaged and set aside: %s", path, error)
                path.rename(path.with_suffix(".damaged"))
        return sorted(records, key=lambda record: record.endpoint.id)

    def save(self, record: Record) -> None:
        """Write one. CiliumpyError if that cannot be, and the former one stays."""
        path = self._path(record.endpoint.id)
        temporary = path.with_suffix(".tmp")
        try:
            with self._lock:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(msgspec.json.encode(record))
                temporary.replace(path)
        except OSError as error:
            raise CiliumpyError(f"cannot write the endpoint record {path}: {error.strerror}") from error

    def save_all(self, records: Iterable[Record]) -> None:
        for record in records:
            self.save(record)

    def remove(self, endpoint_id: int) -> None:
        with self._lock:
            self._path(endpoint_id).unlink(missing_ok=True)

    def save_host(self, *, audit: bool | None) -> None:
        """Write what is kept of the host's endpoint. CiliumpyError if that cannot be."""
        path = self._folder / HOST_FILE
        try:
            with self._lock:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                temporary = path.with_suffix(".tmp")
                temporary.write_bytes(msgspec.json.encode(HostRecord(audit)))
                temporary.replace(path)
        except OSError as error:
            raise CiliumpyError(f"cannot write the endpoint record {path}: {error.strerror}") from error

    def load_host(self) -> bool | None:
        """Return the host's audit mode; None: it has none of its own."""
        path = self._folder / HOST_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=HostRecord).audit
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("endpoint record %s cannot be read: %s", path, error)
            return None

    def _path(self, endpoint_id: int) -> Path:
        return self._folder / f"{endpoint_id}.json"


def _read(data: bytes) -> Record:
    """Decode a record. ValueError or DecodeError if the kernel's tables could not hold what it says."""
    record = msgspec.json.decode(data, type=Record)
    endpoint = record.endpoint
    if not 1 <= endpoint.id <= MAX_SLOT or not 0 <= endpoint.generation < 1 << 32:
        raise ValueError(f"there is no endpoint {endpoint.id} of generation {endpoint.generation}")
    for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
        ipaddress.ip_address(address)
    for mac in (endpoint.mac, endpoint.host_mac):
        if not _MAC.fullmatch(mac):
            raise ValueError(f"{mac!r} is no MAC address")
    return record
