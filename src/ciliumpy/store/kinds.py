# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects a store knows: API version, plural, and whether they stand in a namespace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.errors import FieldError
from ciliumpy.store.interface import Key


class Kind(NamedTuple):
    kind: str
    api_version: str
    plural: str
    namespaced: bool
    former: tuple[str, ...] = ()  # API versions that are read like the present one

    def check_version(self, api_version: str) -> None:
        """Raise FieldError for a version that is not read."""
        if api_version not in (self.api_version, *self.former):
            raise FieldError(("apiVersion",), f"must be {self.api_version} for a {self.kind}")


KINDS: Mapping[str, Kind] = {
    kind.kind: kind
    for kind in (
        Kind("Namespace", "v1", "namespaces", namespaced=False),
        Kind("Pod", "v1", "pods", namespaced=True),
        Kind("Deployment", "apps/v1", "deployments", namespaced=True),
        Kind("CiliumNetworkPolicy", "cilium.io/v2", "ciliumnetworkpolicies", namespaced=True),
        Kind("CiliumClusterwideNetworkPolicy", "cilium.io/v2", "ciliumclusterwidenetworkpolicies", namespaced=False),
        Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", namespaced=True),
        Kind("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", namespaced=False),
        Kind("Service", "v1", "services", namespaced=True),
        Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", namespaced=True),
        Kind("CiliumCIDRGroup", "cilium.io/v2", "ciliumcidrgroups", namespaced=False, former=("cilium.io/v2alpha1",)),
        Kind("CiliumNode", "cilium.io/v2", "ciliumnodes", namespaced=False),
        Kind("CiliumIdentity", "cilium.io/v2", "ciliumidentities", namespaced=False),
        Kind("CiliumEndpoint", "cilium.io/v2", "ciliumendpoints", namespaced=True),
    )
}
POLICY_KINDS = (
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "NetworkPolicy",
    "ClusterNetworkPolicy",
)
DEFAULT_NAMESPACE = "default"

# A DNS subdomain, as Kubernetes wants it for names; nothing else becomes part of a path.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST = 253


def kind_named(name: str) -> Kind:
    """Return the kind. CiliumpyError if no store knows it."""
    kind = KINDS.get(name)
    if kind is None:
        raise CiliumpyError(f"objects of kind {name} cannot be stored", "known are " + ", ".join(sorted(KINDS)))
    return kind


def key_of(document: Any) -> Key:
    """Return which object a document is. FieldError where it does not say so, or not well."""
    if not isinstance(document, Mapping):
        raise FieldError((), "an object must be a mapping with apiVersion, kind and metadata")
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str):
            raise FieldError((field,), "is missing" if document.get(field) is None else "must be text")
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        raise FieldError(("metadata",), "is missing" if metadata is None else "must be a mapping")
    if metadata.get("name") is None:
        raise FieldError(("metadata", "name"), "is missing")
    name = _checked(metadata["name"], "name")
    kind = KINDS.get(document["kind"])
    namespace = metadata.get("namespace")
    if kind is not None and not kind.namespaced:
        if namespace:
            raise FieldError(("metadata", "namespace"), f"a {kind.kind} has no namespace")
        return Key(document["kind"], "", name)
    return Key(document["kind"], _checked(namespace, "namespace") if namespace else DEFAULT_NAMESPACE, name)


def _checked(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise FieldError(("metadata", field), "must be text; put it in quotes")
    if len(value) > _LONGEST or not _NAME.fullmatch(value):
        raise FieldError(
            ("metadata", field),
            f"{value[:80]!r} is no name: lower case letters, digits, '-' and '.', at most {_LONGEST}",
        )
    return value
