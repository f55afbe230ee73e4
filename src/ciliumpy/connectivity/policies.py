# SPDX-License-Identifier: Apache-2.0
"""PURE: the policy objects of the scenarios, said shortly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.plan import Document

Rule = dict[str, Any]
_NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def policy(namespace: str, name: str, app: str | None = None, **rules: Sequence[Rule]) -> Document:
    """Return a CiliumNetworkPolicy on the pods with label `app`, None: on all of the namespace.

    `rules` are ingress, egress, ingressDeny and egressDeny.
    """
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": app}} if app else {},
            **{direction: list(each) for direction, each in rules.items()},
        },
    }


def host_policy(namespace: str, name: str, **rules: Sequence[Rule]) -> Document:
    """Return a CiliumClusterwideNetworkPolicy on all nodes. Its name has the namespace's: there are no two of a run."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {"nodeSelector": {}, **{direction: list(each) for direction, each in rules.items()}},
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


def port(number: int, protocol: str = "TCP", last: int = 0) -> dict[str, Any]:
    """Return `toPorts` of one port, or of all from `number` to `last`."""
    one: dict[str, Any] = {"port": str(number), "protocol": protocol}
    return {"toPorts": [{"ports": [{**one, "endPort": last} if last else one]}]}


def echo_requests() -> dict[str, Any]:
    """Return `icmps` of a ping's request, in both families."""
    return {"icmps": [{"fields": [{"family": "IPv4", "type": 8}, {"family": "IPv6", "type": 128}]}]}
