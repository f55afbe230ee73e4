# SPDX-License-Identifier: Apache-2.0
"""Labels as Cilium has them: `source:key=value`, the filter that leaves identity labels, and a pod's label set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ciliumpy.model.errors import Path

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
CLUSTER = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
FIXED_IDENTITY = "io.cilium.fixed-identity"

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


class Pattern(NamedTuple):
    """A regular expression for the beginning of keys, of labels of one source or of any (empty), to keep or to drop."""

    source: str
    expression: re.Pattern[str]
    drop: bool

    def end(self, label: Label) -> int:
        """Return how much of the key it matches; 0 if it does not, or nothing of it."""
        if self.source and self.source != label.source:
            return 0
        match = self.expression.match(label.key)
        return match.end() if match else 0


class LabelFilter:
    """Which labels make an identity: those that no pattern to drop matches, or one to keep further than the shortest.

    `entries` come on top of the default, in Cilium's form: `[source:][!]expression`. With one to keep among them,
    labels that no pattern matches do not count either.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        own = [pattern(entry) for entry in entries]
        kept = [Pattern("", re.compile(each), drop=False) for each in _KEEP]
        dropped = [Pattern("", re.compile(each), drop=True) for each in _DROP]
        self._keep = (*kept, *(each for each in own if not each.drop))
        self._drop = (*dropped, *(each for each in own if each.drop))
        self._only_kept = any(not each.drop for each in own)

    def __call__(self, label: Label) -> bool:
        if label.source == "reserved":
            return True
        kept = max((each.end(label) for each in self._keep), default=0)
        dropped = min((end for each in self._drop if (end := each.end(label))), default=0)
        return kept > dropped or not (self._only_kept or dropped)


def pattern(entry: str) -> Pattern:
    """Return what an entry of a filter says. ValueError, with the reason, if it says nothing."""
    source, colon, rest = entry.partition(":")
    if not colon:
        source, rest = "", entry
    drop = rest.startswith("!")
    if not rest.removeprefix("!"):
        raise ValueError(f"{entry!r} names no label: write [source:][!]expression")
    try:
        return Pattern(source, re.compile(rest.removeprefix("!")), drop)
    except re.error as error:
        raise ValueError(f"{entry!r} is no regular expression: {error}") from None


def pod_labels(
    namespace: str,
    labels: Iterable[tuple[str, str]],
    *,
    namespace_labels: Iterable[tuple[str, str]] = (),
    service_account: str = "",
    cluster: str = "default",
    keep: LabelFilter | None = None,
    fixed: Collection[str] = (),
) -> tuple[str, ...]:
    """The identity labels of a pod, canonical. What the pod itself claims of the reserved keys is overwritten.

    One that asks for one of the `fixed` identities by its name has that label alone.
    """
    name = dict(labels).get(FIXED_IDENTITY, "") if fixed else ""
    if name in fixed:
        return (f"reserved:{name}",)
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
