# SPDX-License-Identifier: Apache-2.0
"""Which ports the pods of each identity call by name, on whatever node they are. Pure.

What a pod leaves behind stays for a while: where it gets another identity, the kernels of this and other nodes judge
it by the former one until all of the new is there.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from ciliumpy.model.ports import parse_protocol
from ciliumpy.policy.resolve import NO_PORTS, PortNumbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.tables.source import NamedPort

PodName = tuple[str, str]  # namespace, name
STAY_S = 5.0


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
        self._left: deque[tuple[float, int, PortNumbers]] = deque()  # when, whose, which

    def __bool__(self) -> bool:
        """Whether something is still to be taken away."""
        return bool(self._left)

    def of(self, identity: int) -> PortNumbers:
        """The named ports of all its pods together."""
        return tuple(sorted({port for ports in self._known.get(identity, ()) for port in ports}))

    def holder(self, pod: PodName) -> int:
        """The identity of a pod that has named ports; 0: it has no identity, or no such port."""
        return self._identity.get(pod, 0) if pod in self._ports else 0

    def set_pod(self, pod: PodName, ports: Iterable[NamedPort], now_s: float) -> set[int]:
        """A pod has these ports; none when it is gone."""
        return self._set(pod, numbers_of(ports), self._identity.get(pod, 0), now_s)

    def set_identity(self, pod: PodName, identity: int, now_s: float) -> set[int]:
        """A pod's endpoint has this identity; 0 when there is none."""
        return self._set(pod, self._ports.get(pod, NO_PORTS), identity, now_s)

    def expire(self, now_s: float) -> set[int]:
        """Take away what was left behind long enough ago."""
        changed = set()
        while self._left and self._left[0][0] + STAY_S <= now_s:
            _, identity, ports = self._left.popleft()
            self._count(identity, ports, -1)
            changed.add(identity)
        return changed

    def _set(self, pod: PodName, ports: PortNumbers, identity: int, now_s: float) -> set[int]:
        before = self._identity.get(pod, 0), self._ports.get(pod, NO_PORTS)
        if before == (identity, ports):
            return set()
        if all(before):
            self._left.append((now_s, *before))
        self._count(identity, ports, 1)
        self._identity.pop(pod, None)
        self._ports.pop(pod, None)
        if identity:
            self._identity[pod] = identity
        if ports:
            self._ports[pod] = ports
        return {identity} if identity and ports else set()

    def _count(self, identity: int, ports: PortNumbers, step: int) -> None:
        if identity and ports:
            counts = self._known.setdefault(identity, Counter())
            counts[ports] += step
            if not counts[ports]:
                del counts[ports]
            if not counts:
                del self._known[identity]
