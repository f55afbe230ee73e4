# SPDX-License-Identifier: Apache-2.0
"""Which number a label set gets, and how it is written down. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import FIRST_ALLOCATED, LAST_ALLOCATED
from ciliumpy.model.labels import NAMESPACE, parse, texts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KIND = "CiliumIdentity"
HEARTBEAT = "io.cilium.heartbeat"  # annotation: when somebody began to use it
MOST = LAST_ALLOCATED - FIRST_ALLOCATED + 1


class FreeNumbers:
    """The numbers that are not in use, in the order in which they are given.

    First those after the highest in use, so that one just given up rests; then the others, lowest first.
    """

    def __init__(self, used: Collection[int]) -> None:
        self._used = set(used)
        self._next = max((n for n in self._used if n <= LAST_ALLOCATED), default=FIRST_ALLOCATED - 1) + 1
        self._next = max(self._next, FIRST_ALLOCATED)
        self._again = False

    def take(self, wanted: int = 0) -> int:
        """Return one, and have it used from now on; `wanted`, if that is free. CiliumpyError if there is none."""
        if wanted and wanted not in self._used:
            self._used.add(wanted)
            return wanted
        while self._next in self._used or self._next > LAST_ALLOCATED:
            if self._next > LAST_ALLOCATED:
                if self._again:
                    raise CiliumpyError(
                        f"all {MOST} identities of the cluster are in use",
                        "leave out labels that never repeat (identity.labels), or delete CiliumIdentity objects that"
                        " no endpoint has",
                    )
                self._next, self._again = FIRST_ALLOCATED - 1, True
            self._next += 1
        self._used.add(self._next)
        return self._next


def document(number: int, labels: tuple[str, ...], now_ns: int = 0) -> dict[str, Any]:
    """Return the CiliumIdentity object, with the time (of the wall clock) at which somebody begins to use it."""
    parsed = [parse(label) for label in labels]
    namespace = next((label.value for label in parsed if label[:2] == ("k8s", NAMESPACE)), "")
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": {
            "name": str(number),
            "labels": {NAMESPACE: namespace} if namespace else {},
            **({"annotations": {HEARTBEAT: _time(now_ns)}} if now_ns else {}),
        },
        "security-labels": {f"{label.source}:{label.key}": label.value for label in parsed},
    }


def labels_of(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of a CiliumIdentity object, sorted; none if it has no usable ones."""
    labels = stored.get("security-labels")
    if not isinstance(labels, dict):
        return ()
    return texts(parse(key)._replace(value=value) for key, value in labels.items() if isinstance(value, str))


def is_allocatable(number: int) -> bool:
    return FIRST_ALLOCATED <= number <= LAST_ALLOCATED


def heartbeat_ns(stored: Mapping[str, Any]) -> int:
    """Return when somebody began to use the identity of an object, as it says; 0 if it does not, or nonsense."""
    metadata = stored.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    text = annotations.get(HEARTBEAT) if isinstance(annotations, dict) else None
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        return int(time.timestamp() * 1e9) if time and time.tzinfo else 0
    except (ValueError, OverflowError):
        return 0


def _time(now_ns: int) -> str:
    return datetime.fromtimestamp(now_ns / 1e9, UTC).isoformat(timespec="microseconds")
