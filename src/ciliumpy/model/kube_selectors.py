# SPDX-License-Identifier: Apache-2.0
"""What the policies of Kubernetes itself select by: labels of pods and of namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ciliumpy.model.errors import FieldError
from ciliumpy.model.label_selectors import decode_selector
from ciliumpy.model.labels import NAMESPACE, NAMESPACE_LABELS
from ciliumpy.model.selectors import exists

if TYPE_CHECKING:
    from ciliumpy.model.errors import Path
    from ciliumpy.model.selectors import Requirement

ANY_NAMESPACE = exists("k8s", NAMESPACE)  # what all pods have, and neither nodes nor the world


def pod_labels(value: Any, path: Path) -> list[Requirement]:
    """The requirements of a pod selector; none of `{}`."""
    found = []
    for requirement in decode_selector(value, path):
        if requirement.source != "any":
            said = f"'{requirement.source}:{requirement.key}' is not a label key: here keys have no source before them"
            raise FieldError(path, said)
        found.append(msgspec.structs.replace(requirement, source="k8s"))
    return found


def namespace_labels(value: Any, path: Path) -> list[Requirement]:
    """The requirements of a namespace selector, to be met by pods; `{}` is met by every pod."""
    own = [msgspec.structs.replace(r, key=NAMESPACE_LABELS + r.key) for r in pod_labels(value, path)]
    return [ANY_NAMESPACE, *own]
