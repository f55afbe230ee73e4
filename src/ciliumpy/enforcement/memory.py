# SPDX-License-Identifier: Apache-2.0
"""What the numbers in the kernel's sets mean, on disk: the maps outlive the agent, so their meaning must.

Which bit each selector has: the sets of the agent before this one stay in force until ours are written. And which place
counts for which rule. The files lie in the run directory, because all of it is gone after a reboot.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from ciliumpy.model.selectors import Selector

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)


class Memory(Protocol):
    """Where bits are kept over a restart."""

    def load(self) -> dict[Selector, int] | None:
        """What was kept; None if nothing is known of an agent before this one."""
        ...

    def save(self, bits: Mapping[Selector, int]) -> None:
        """Keep them; called before any vector has a bit that is new. OSError: nothing was kept."""
        ...


class FileMemory:
    """A JSON list of [bit, selector], replaced whole by a rename."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def load(self) -> dict[Selector, int] | None:
        """What was kept; None, with a warning, if the file is damaged or of other bits than this node has."""
        try:
            entries = msgspec.json.decode(self._path.read_bytes(), type=list[tuple[int, Selector]])
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s: cannot be read, selector bits are given anew: %s", self._path, error)
            return None
        bits = {selector: bit for bit, selector in entries}
        if len(set(bits.values())) != len(entries) or not all(0 <= bit < self._size for bit in bits.values()):
            _log.warning("%s: names bits that this node has not, or twice: selector bits are given anew", self._path)
            return None
        return bits

    def save(self, bits: Mapping[Selector, int]) -> None:
        _replace(self._path, msgspec.json.encode([(bit, selector) for selector, bit in bits.items()]))


class CountMemory(Protocol):
    """Where it is kept over a restart whose the places are where the kernel counts."""

    def load(self) -> dict[int, str]:
        """Place -> rule; empty if nothing is known."""
        ...

    def save(self, rules: Mapping[int, str]) -> None:
        """Keep them instead of what was. OSError: what was is kept."""
        ...


class CountFile:
    """A JSON object of place -> rule, replaced whole by a rename."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[int, str]:
        """What was kept; nothing, with a warning, if the file is damaged."""
        try:
            rules = msgspec.json.decode(self._path.read_bytes(), type=dict[int, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s: cannot be read, rules are counted from nothing: %s", self._path, error)
            return {}
        if len(set(rules.values())) != len(rules):
            _log.warning("%s: names a rule twice, rules are counted from nothing", self._path)
            return {}
        return rules

    def save(self, rules: Mapping[int, str]) -> None:
        _replace(self._path, msgspec.json.encode(rules))


class NoCountMemory:
    """Of an agent whose kernel maps do not outlive it."""

    def load(self) -> dict[int, str]:
        return {}

    def save(self, rules: Mapping[int, str]) -> None:
        pass


class NoMemory:
    """Of an agent whose kernel maps do not outlive it."""

    def load(self) -> dict[Selector, int] | None:
        return None

    def save(self, bits: Mapping[Selector, int]) -> None:
        pass


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.chmod(0o600)
    temporary.replace(path)
