# SPDX-License-Identifier: Apache-2.0
"""PURE: which Pods a Deployment must have, and on which node a Pod runs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from ciliumpy.lab.manifests import DeploymentSpec, PodSpec

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes': no vowels, no words
_HASH_LABEL = "pod-template-hash"


class Owned(NamedTuple):
    """A Pod in the store that a Deployment has made."""

    namespace: str
    name: str
    deployment: str
    hash: str
    running: bool


class Plan(NamedTuple):
    create: list[dict[str, Any]]
    delete: list[tuple[str, str]]  # (namespace, name)


def template_hash(template: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(template, sort_keys=True, default=str).encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:9])


def owner_of(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (Deployment, template hash) of a Pod document, if it has such an owner."""
    metadata = document.get("metadata") or {}
    given = (metadata.get("labels") or {}).get(_HASH_LABEL)
    for owner in metadata.get("ownerReferences") or []:
        if owner.get("kind") == "ReplicaSet" and given and str(owner.get("name", "")).endswith(f"-{given}"):
            return str(owner["name"]).removesuffix(f"-{given}"), str(given)
    return None


def plan(deployments: Sequence[DeploymentSpec], pods: Sequence[Owned], source: random.Random) -> Plan:
    """Return what is missing and what is too many.

    A changed template is rolled out by making all new Pods at once; the old ones go when the new ones run.
    """
    create: list[dict[str, Any]] = []
    delete: list[tuple[str, str]] = []
    wanted = {(d.namespace, d.name): d for d in deployments}
    owned: dict[tuple[str, str], list[Owned]] = {key: [] for key in wanted}
    for pod in pods:
        if (pod.namespace, pod.deployment) in wanted:
            owned[pod.namespace, pod.deployment].append(pod)
        else:
            delete.append((pod.namespace, pod.name))
    for key, spec in wanted.items():
        current = template_hash(spec.template)
        new = sorted((p for p in owned[key] if p.hash == current), key=lambda p: (not p.running, p.name))
        old = [p for p in owned[key] if p.hash != current]
        create += [_pod(spec, current, source) for _ in range(spec.replicas - len(new))]
        delete += [(p.namespace, p.name) for p in new[spec.replicas :]]
        if sum(p.running for p in new) >= spec.replicas:
            delete += [(p.namespace, p.name) for p in old]
    return Plan(create, delete)


def _pod(spec: DeploymentSpec, current: str, source: random.Random) -> dict[str, Any]:
    metadata = spec.template.get("metadata") or {}
    suffix = "".join(source.choices(_LETTERS, k=5))
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{spec.name}-{current}", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{k: v for k, v in metadata.items() if k == "annotations"},
            "name": f"{spec.name}-{current}-{suffix}",
            "namespace": spec.namespace,
            "labels": {**(metadata.get("labels") or {}), _HASH_LABEL: current},
            "ownerReferences": [owner],
        },
        "spec": spec.template["spec"],
    }


class Placed:
    """How many Pods each node has, of each group too (a Deployment's)."""

    def __init__(self, placed: Iterable[tuple[str, str]] = ()) -> None:
        self.load: Counter[str] = Counter()
        self.alike: Counter[tuple[str, str]] = Counter()
        for node, group in placed:
            self.add(node, group)

    def add(self, node: str, group: str) -> None:
        self.load[node] += 1
        self.alike[node, group] += 1


def choose(pod: PodSpec, group: str, nodes: Mapping[str, Mapping[str, str]], placed: Placed) -> str | None:
    """Return the node for a Pod, or None if no node's labels fit.

    `nodes` are labels by name; Pods of a group are spread first, then the load.
    """
    fitting = [name for name, labels in nodes.items() if pod.selector.items() <= labels.items()]
    return min(fitting, key=lambda name: (placed.alike[name, group], placed.load[name], name), default=None)
