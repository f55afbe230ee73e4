# SPDX-License-Identifier: Apache-2.0
"""Numbers and names of a new endpoint. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ciliumpy.datapath.devices import POD_PREFIX
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Container

MAX_SLOT = 4094  # MAX_ENDPOINTS of bpf/c/layout.h, less slot 0 and the host's
_GENERATION_SHIFT = 26  # a tick of 67 ms: 32 bits last nine years of uptime


class Slots:
    """Slots in turn, so that a freed one rests as long as possible, each time with a higher generation.

    The generation comes from the monotonic clock: it grows over restarts of the agent without a file, and a reboot that
    sets the clock back also takes the conntrack rows that could name an old one.
    """

    def __init__(self) -> None:
        self._last_slot = 0
        self._last_generation = 0

    def restore(self, slot: int, generation: int) -> None:
        """Note numbers that a restored endpoint has."""
        self._last_slot = max(self._last_slot, slot)
        self._last_generation = max(self._last_generation, generation)

    def allocate(self, in_use: Container[int], monotonic_ns: int) -> tuple[int, int]:
        """Return (slot, generation). CiliumpyError: every slot is taken."""
        for step in range(1, MAX_SLOT + 1):
            slot = (self._last_slot + step - 1) % MAX_SLOT + 1
            if slot not in in_use:
                self._last_slot = slot
                self._last_generation = max(self._last_generation + 1, (monotonic_ns >> _GENERATION_SHIFT) & 0xFFFFFFFF)
                return slot, self._last_generation
        raise CiliumpyError(
            f"all {MAX_SLOT} endpoint slots of this node are in use", "move pods to other nodes, or delete some"
        )


def host_interface(container_id: str, interface: str) -> str:
    """Return the name of the node's side: the same for the same container and interface, 15 characters."""
    return POD_PREFIX + _digest(container_id, interface)[:12]


def macs(container_id: str, interface: str, generation: int) -> tuple[str, str]:
    """Return the addresses of the pod's and of the node's side: locally administered, unicast."""
    digest = _digest(container_id, interface, str(generation))
    pod, host = digest[:10], digest[10:20]
    return _mac("0a" + pod), _mac("0e" + host)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _mac(digits: str) -> str:
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
