# SPDX-License-Identifier: Apache-2.0
"""Says in CALLED_PODS as whom policies reach a pod's named ports.

That is so when the vector of the pod's identity knows the ports and every set that needed another number for one of
their names is in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.tables.enforcement import CALLED_PODS, CALLED_WAIT_S, VECTORS, CalledPod

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ciliumpy.enforcement.pod_ports import PodName
    from ciliumpy.state.database import Database


class Called:
    """The one writer of CALLED_PODS."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._vectors = db.table(VECTORS)
        self._wanted: dict[PodName, int] = {}  # not said yet
        self._waiting: list[tuple[int, dict[PodName, int], frozenset[int]]] = []  # until when, who, for which sets

    def __bool__(self) -> bool:
        """Whether there is something to be said that no table's change will tell of."""
        return bool(self._waiting)

    def move(self, pods: Mapping[PodName, int], sets: Collection[int]) -> None:
        """Pods with named ports have these identities (0: none) in the vectors written; `sets` are on their way."""
        if not pods:
            return
        moved = {}
        with self._db.write() as txn:
            for pod, identity in pods.items():
                row = txn.get(CALLED_PODS, pod)
                self._wanted.pop(pod, None)
                if row is not None and row.identity != identity:
                    txn.delete(CALLED_PODS, pod)
                if identity and (row is None or row.identity != identity):
                    self._wanted[pod] = moved[pod] = identity
        if not moved:
            return
        until = self._db.clock.monotonic_ns() + int(CALLED_WAIT_S * 1e9)
        self._waiting.append((until, moved, frozenset(sets)))

    def settle(self, pending: Collection[int]) -> None:
        """Say what is so now; `pending` are the sets that are not in force yet."""
        now = self._db.clock.monotonic_ns()
        left = [one for one in self._waiting if now < one[0] and not self._is_so(one[1], one[2], pending)]
        for _, pods, _ in (one for one in self._waiting if one not in left):
            with self._db.write() as txn:
                for pod, identity in pods.items():
                    if self._wanted.get(pod) == identity:
                        del self._wanted[pod]
                        txn.upsert(CALLED_PODS, CalledPod(*pod, identity))
        self._waiting = left

    def _is_so(self, pods: Mapping[PodName, int], sets: frozenset[int], pending: Collection[int]) -> bool:
        # Of an identity that has no vector yet, whoever writes its addresses waits for the first: it will have all.
        known = {identity for identity in pods.values() if identity in self._vectors}
        return sets.isdisjoint(pending) and all(self._vectors.status(one).state in ("done", "error") for one in known)
