# SPDX-License-Identifier: Apache-2.0
"""Labels as Cilium has them: `source:key=value`, the filter that leaves identity labels, and a pod's label set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ciliumpy.model.errors import Path

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
CLUSTER = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"

# Where a label may come from; `any` is for selectors only.
SOURCES = (
    "any",
    "k8s",
    "reserved",
    "cidr",
    "cidrgroup",
    "container",
    "directory",
    "fqdn",
    "gen",
    "node",
    "unspec",
)

# Cilium's default label filter: what an identity is made of. A pattern is matched at the start of the key.
_KEEP = (
    r"io\.kubernetes\.pod\.namespace",
    r"io\.cilium\.k8s\.namespace\.labels",
    r"app\.kubernetes\.io",
    r"io\.cilium\.k8s\.policy\.cluster",
    r"io\.cilium\.k8s\.policy\.serviceaccount",
)
_DROP = (
    r"io\.kubernetes",
    r"kubernetes\.io",
    r".*beta\.kubernetes\.io",
    r"k8s\.io",
    r"pod-template-generation",
    r"pod-template-hash",
    r"controller-revision-hash",
    r"controller-uid",
    r"annotation.*",
    r"etcd_node",
    r"topology\.kubernetes\.io",
    r"statefulset\.kubernetes\.io/pod-name",
    r"apps\.kubernetes\.io/pod-index",
    r"batch\.kubernetes\.io/job-completion-index",
    r"batch\.kubernetes\.io/controller-uid",
)


# What the API server takes (Kubernetes, "Labels and Selectors: Syntax and character set").
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_PREFIX = 253


class Label(NamedTuple):
    source: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"


def check(labels: Mapping[str, str], path: Path) -> None:
    """Raise FieldError for a label that no API server takes: a key with `=` in it would read as another's value."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if not _NAME.fullmatch(name) or (slash and (len(prefix) > _LONGEST_PREFIX or not _PREFIX.fullmatch(prefix))):
            raise FieldError((*path, key), "is no label: [domain/]name, at most 63 letters, digits, '-', '_' and '.'")
        if value and not _NAME.fullmatch(value):
            raise FieldError((*path, key), f"{value[:80]!r} is no value: at most 63 letters, digits, '-', '_' and '.'")


def parse(text: str) -> Label:
    """`source:key=value`; the source is `unspec` where the text has none. Never fails: any text is some label."""
    head, _, value = text.partition("=")
    source, colon, key = head.partition(":")
    return Label(source, key, value) if colon else Label("unspec", head, value)


def texts(labels: Iterable[Label]) -> tuple[str, ...]:
    """The canonical form of a label set: printed, sorted, each once."""
    return tuple(sorted({str(label) for label in labels}))


class LabelFilter:
    """Which labels make an identity. A label stays if no drop pattern matches, or a keep pattern matches further."""

    def __init__(self, keep: Iterable[str] = _KEEP, drop: Iterable[str] = _DROP) -> None:
        self._keep = tuple(re.compile(pattern) for pattern in keep)
        self._drop = tuple(re.compile(pattern) for pattern in drop)

    def __call__(self, label: Label) -> bool:
        if label.source == "reserved":
            return True
        dropped = [match.end() for pattern in self._drop if (match := pattern.match(label.key))]
        if not dropped:
            return bool(self._drop) or self._kept(label.key) > 0
        return self._kept(label.key) > min(dropped)

    def _kept(self, key: str) -> int:
        return max((match.end() for pattern in self._keep if (match := pattern.match(key))), default=0)


def pod_labels(
    namespace: str,
    labels: Iterable[tuple[str, str]],
    *,
    namespace_labels: Iterable[tuple[str, str]] = (),
    service_account: str = "",
    cluster: str = "default",
    keep: LabelFilter | None = None,
) -> tuple[str, ...]:
    """The identity labels of a pod, canonical. What the pod itself claims of the reserved keys is overwritten."""
    known = {Label("k8s", key): value for key, value in labels if not key.startswith(NAMESPACE_LABELS)}
    known |= {Label("k8s", NAMESPACE_LABELS + key): value for key, value in namespace_labels}
    for key in (NAMESPACE, CLUSTER, SERVICE_ACCOUNT):
        known.pop(Label("k8s", key), None)
    known[Label("k8s", NAMESPACE)] = namespace
    known[Label("k8s", CLUSTER)] = cluster
    if service_account:
        known[Label("k8s", SERVICE_ACCOUNT)] = service_account
    accept = keep or LabelFilter()
    return texts(Label(*label[:2], value) for label, value in known.items() if accept(label))
