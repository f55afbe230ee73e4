# SPDX-License-Identifier: Apache-2.0
"""Which number a label set gets, and how it is written down. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import FIRST_ALLOCATED, LAST_ALLOCATED
from ciliumpy.model.labels import NAMESPACE, parse, texts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KIND = "CiliumIdentity"


def free_number(used: Collection[int]) -> int:
    """Return the number after the highest in use, so that one just given up rests; at the end, the lowest free one."""
    after = max((number for number in used if number <= LAST_ALLOCATED), default=FIRST_ALLOCATED - 1) + 1
    if FIRST_ALLOCATED <= after <= LAST_ALLOCATED:
        return after
    for number in range(FIRST_ALLOCATED, LAST_ALLOCATED + 1):
        if number not in used:
            return number
    raise CiliumpyError(
        f"all {LAST_ALLOCATED - FIRST_ALLOCATED + 1} identities of the cluster are in use",
        "delete CiliumIdentity objects that no endpoint has",
    )


def document(number: int, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the CiliumIdentity object."""
    parsed = [parse(label) for label in labels]
    namespace = next((label.value for label in parsed if label[:2] == ("k8s", NAMESPACE)), "")
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": {"name": str(number), "labels": {NAMESPACE: namespace} if namespace else {}},
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
