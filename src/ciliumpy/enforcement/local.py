# SPDX-License-Identifier: Apache-2.0
"""The endpoints of this node by what they need a policy set for. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ciliumpy.tables.endpoints import Endpoint
    from ciliumpy.tables.source import NamedPort


class Variant(NamedTuple):
    """Whom one set is for: the endpoints of an identity, or where it matters only those with these named ports."""

    identity: int
    named_ports: tuple[NamedPort, ...] | None = None


class Local:
    """Local identities, and the lists of named ports that their endpoints have."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[int, tuple[NamedPort, ...]]] = {}  # endpoint -> identity, ports
        self._ports: dict[int, Counter[tuple[NamedPort, ...]]] = {}  # identity -> ports -> endpoints

    def __contains__(self, identity: int) -> bool:
        return identity in self._ports

    def variants(self, identity: int, *, by_ports: bool) -> list[Variant]:
        """The sets that an identity needs; none for one that no endpoint has."""
        ports = self._ports.get(identity, Counter())
        if not by_ports:
            return [Variant(identity)] if ports else []
        return [Variant(identity, each) for each in sorted(ports)]

    def set_endpoint(self, endpoint: Endpoint) -> set[int]:
        """Add or change an endpoint; the identities that need other sets now."""
        before = self._of.get(endpoint.id)
        now = (endpoint.identity, endpoint.named_ports)
        if before == now:
            return set()
        changed = self.remove_endpoint(endpoint.id)
        if endpoint.identity:
            self._of[endpoint.id] = now
            self._ports.setdefault(endpoint.identity, Counter())[endpoint.named_ports] += 1
            changed.add(endpoint.identity)
        return changed

    def remove_endpoint(self, number: int) -> set[int]:
        identity, ports = self._of.pop(number, (0, ()))
        if not identity:
            return set()
        counts = self._ports[identity]
        counts[ports] -= 1
        if not counts[ports]:
            del counts[ports]
        if not counts:
            del self._ports[identity]
        return {identity}
