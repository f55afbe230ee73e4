# SPDX-License-Identifier: Apache-2.0
"""The node's own numbers on disk: what the kernel has of an agent before this one goes by them.

The file lies in the run directory, because it and the kernel's maps are gone together after a reboot.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from ciliumpy.model.identity import scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True):
    """Numbers in use with their labels, the one to go on with, and who has which."""

    numbers: dict[int, tuple[str, ...]] = {}
    following: int = 0
    owners: dict[str, int] = {}


class Memory(Protocol):
    """Where they are kept over a restart."""

    def load(self) -> Kept | None:
        """Return what was kept; None if nothing is known of an agent before this one."""
        ...

    def save(self, kept: Kept) -> None:
        """Keep them; called before any of them is used. OSError: nothing was kept."""
        ...


class FileMemory:
    """A JSON file, replaced whole by a rename."""

    def __init__(self, path: Path, scope: int, check: Callable[[str], object] | None = None) -> None:
        """`check` raises ValueError for what is no owner."""
        self._path = path
        self._scope = scope
        self._check = check

    def load(self) -> Kept | None:
        """Return what was kept; None, with a warning, if the file is damaged."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
            if self._check is not None:
                for owner in kept.owners:
                    self._check(owner)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("%s: cannot be read, identities of prefixes are given anew: %s", self._path, error)
            return None
        if any(scope(number) != self._scope for number in kept.numbers) or not kept.numbers.keys() >= {
            *kept.owners.values()
        }:
            _log.warning("%s: names numbers that are not this node's to give: all are given anew", self._path)
            return None
        return kept

    def save(self, kept: Kept) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(kept))
        temporary.chmod(0o600)
        temporary.replace(self._path)


class NoMemory:
    """Of an agent whose kernel maps do not outlive it."""

    def load(self) -> Kept | None:
        return None

    def save(self, kept: Kept) -> None:
        pass
