# SPDX-License-Identifier: Apache-2.0
"""Which ports the pods of each identity call by name, on whatever node they are. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ciliumpy.model.ports import parse_protocol
from ciliumpy.policy.resolve import NO_PORTS, PortNumbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.tables.source import NamedPort

PodName = tuple[str, str]  # namespace, name


def numbers_of(ports: Iterable[NamedPort]) -> PortNumbers:
    """A pod's named ports as the policy engine knows them."""
    found = {(protocol, port.name.lower(), port.port) for port in ports for protocol in parse_protocol(port.protocol)}
    return tuple(sorted(found))


class PodPorts:
    """Joins the ports of pods with the identities of their endpoints; methods return identities that changed."""

    def __init__(self) -> None:
        self._ports: dict[PodName, PortNumbers] = {}
        self._identity: dict[PodName, int] = {}
        self._known: dict[int, Counter[PortNumbers]] = {}

    def of(self, identity: int) -> PortNumbers:
        """The named ports of all its pods together."""
        return tuple(sorted({port for ports in self._known.get(identity, ()) for port in ports}))

    def set_pod(self, pod: PodName, ports: Iterable[NamedPort]) -> set[int]:
        """A pod has these ports; none when it is gone."""
        return self._set(pod, numbers_of(ports), self._identity.get(pod, 0))

    def set_identity(self, pod: PodName, identity: int) -> set[int]:
        """A pod's endpoint has this identity; 0 when there is none."""
        return self._set(pod, self._ports.get(pod, NO_PORTS), identity)

    def _set(self, pod: PodName, ports: PortNumbers, identity: int) -> set[int]:
        before = self._identity.get(pod, 0), self._ports.get(pod, NO_PORTS)
        if before == (identity, ports):
            return set()
        self._count(*before, -1)
        self._count(identity, ports, 1)
        self._identity.pop(pod, None)
        self._ports.pop(pod, None)
        if identity:
            self._identity[pod] = identity
        if ports:
            self._ports[pod] = ports
        return {number for number, some in (before, (identity, ports)) if number and some}

    def _count(self, identity: int, ports: PortNumbers, step: int) -> None:
        if identity and ports:
            counts = self._known.setdefault(identity, Counter())
            counts[ports] += step
            if not counts[ports]:
                del counts[ports]
            if not counts:
                del self._known[identity]
