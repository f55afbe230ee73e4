# SPDX-License-Identifier: Apache-2.0
"""PURE: the policy objects of the scenarios, and what they name, said shortly."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ciliumpy.connectivity.plan import Document, Party

Rule = dict[str, Any]
_NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def policy(namespace: str, name: str, app: str | None = None, **spec: Any) -> Document:
    """Return a CiliumNetworkPolicy on the pods with label `app`, None: on all of the namespace.

    `spec` are ingress, egress, ingressDeny, egressDeny and enableDefaultDeny.
    """
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}} if app else {}, **spec},
    }


def clusterwide_policy(namespace: str, name: str, labels: Mapping[str, str], **spec: Any) -> Document:
    """Return a CiliumClusterwideNetworkPolicy on the pods with these labels. Its name has the namespace's."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {"endpointSelector": {"matchLabels": dict(labels)}, **spec},
    }


def kubernetes_policy(namespace: str, name: str, app: str | None = None, **spec: Any) -> Document:
    """Return a NetworkPolicy on the pods with label `app`. `spec` are ingress, egress and policyTypes."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": app}} if app else {}, **spec},
    }


def tiered_policy(
    namespace: str, name: str, app: str, tier: str, *, priority: int = 500, **rules: Sequence[Rule]
) -> Document:
    """Return a ClusterNetworkPolicy on such pods of the namespace. Its name has the namespace's."""
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {"tier": tier, "priority": priority, "subject": {"pods": tiered_pods(app, namespace)}, **rules},
    }


def tiered_pods(app: str, namespace: str) -> Rule:
    """Return whom a ClusterNetworkPolicy means by `pods`."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {"app": app}},
    }


def cidr_group(namespace: str, name: str, *prefixes: str) -> Document:
    """Return a CiliumCIDRGroup. Its name has the namespace's, which is its label `run` too."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": f"{namespace}-{name}", "labels": {"run": namespace}},
        "spec": {"externalCIDRs": list(prefixes)},
    }


def service(namespace: str, name: str, app: str = "") -> Document:
    """Return a Service that selects the pods with label `app`; none: that has no selector."""
    selector = {"selector": {"app": app}} if app else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**selector, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def slices(namespace: str, name: str, backend: Party) -> list[Document]:
    """Return the EndpointSlices of a service with one backend: one a family, as Kubernetes has it."""
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-{family}",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": f"IPv{family}",
            "endpoints": [{"addresses": [address]}],
            "ports": [],
        }
        for family, address in backend.addresses.items()
    ]


def single(party: Party) -> list[str]:
    """Return the prefixes of its addresses alone."""
    return [str(ipaddress.ip_network(address)) for address in party.addresses.values()]


def around(one: Party, other: Party) -> list[str]:
    """Return the prefixes, one a family that both have, that are just so wide as to contain both their addresses."""
    found = []
    for family in one.addresses.keys() & other.addresses.keys():
        first, second = (ipaddress.ip_address(each.addresses[family]) for each in (one, other))
        length = first.max_prefixlen - (int(first) ^ int(second)).bit_length()
        found.append(str(ipaddress.ip_network((int(first), length), strict=False)))
    return sorted(found)


def around_but(one: Party, but: Party) -> list[Rule]:
    """Return entries of a CIDRSet: what is `around` both without the addresses of one of them."""
    holes = single(but)
    return [
        {"cidr": prefix, "except": [hole for hole in holes if (":" in hole) == (":" in prefix)]}
        for prefix in around(one, but)
    ]


def host_policy(namespace: str, name: str, **rules: Sequence[Rule]) -> Document:
    """Return a CiliumClusterwideNetworkPolicy on all nodes. Its name has the namespace's: there are no two of a run."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {"nodeSelector": {}, **rules},
    }


def pods(app: str | None = None, namespace: str = "") -> dict[str, str]:
    """Return the labels of pods of the policy's own namespace, or of that one."""
    labels = {"app": app} if app else {}
    return {**labels, _NAMESPACE: namespace} if namespace else labels


def from_pods(*labels: dict[str, str], **more: Any) -> Rule:
    return {"fromEndpoints": [{"matchLabels": each} if each else {} for each in labels], **more}


def to_pods(*labels: dict[str, str], **more: Any) -> Rule:
    return {"toEndpoints": [{"matchLabels": each} if each else {} for each in labels], **more}


def from_entities(*names: str, **more: Any) -> Rule:
    return {"fromEntities": list(names), **more}


def to_entities(*names: str, **more: Any) -> Rule:
    return {"toEntities": list(names), **more}


def from_cidrs(*prefixes: str, **more: Any) -> Rule:
    return {"fromCIDR": list(prefixes), **more}


def to_cidrs(*prefixes: str, **more: Any) -> Rule:
    return {"toCIDR": list(prefixes), **more}


def port(number: int | str, protocol: str = "TCP", last: int = 0) -> dict[str, Any]:
    """Return `toPorts` of one port, by number or name, or of all from `number` to `last`."""
    one: dict[str, Any] = {"port": str(number), "protocol": protocol}
    return {"toPorts": [{"ports": [{**one, "endPort": last} if last else one]}]}


def echo_requests() -> dict[str, Any]:
    """Return `icmps` of a ping's request, in both families."""
    return {"icmps": [{"fields": [{"family": "IPv4", "type": 8}, {"family": "IPv6", "type": 128}]}]}
