# SPDX-License-Identifier: Apache-2.0
"""The load of the policy benchmark: pods' label sets and policy documents, the same for the same numbers.

Twenty identities are an app: one namespace, one label `app`, each its own `pod`. Every identity has one of 64 shards.

- selective: the policies of an app are for its twenty identities; each lets another app's twenty in (or out, or denies
  them) on one or two ports.
- broad: cluster-wide; a policy is for half of all identities, by 32 shards drawn at random, and so are its peers.
"""

from __future__ import annotations

import random
from typing import Any

from ciliumpy.model.labels import pod_labels

SHAPES = ("selective", "broad")
APP, SHARDS, NAMESPACES = 20, 64, 50
PORTS = (53, 80, 443, 3306, 5432, 6379, 8080, 8443, 9090, 9200, 11211, 27017)
FIRST = 256  # identity


def own_labels(at: int) -> dict[str, str]:
    """The labels of pod number `at`."""
    return {"app": f"app-{at // APP}", "pod": f"pod-{at}", "shard": f"s{at % SHARDS}", "tier": f"t{at % 3}"}


def labels(count: int, first: int = FIRST) -> dict[int, tuple[str, ...]]:
    """Label sets of `count` identities by number."""
    return {first + at: labels_of(at) for at in range(count)}


def labels_of(at: int) -> tuple[str, ...]:
    space = namespace(at // APP)
    return pod_labels(
        space,
        own_labels(at).items(),
        namespace_labels=[("kubernetes.io/metadata.name", space)],
        service_account="default",
    )


def local(count: int, identities: int) -> list[int]:
    """The identities of a node's endpoints, spread over all apps."""
    step = identities // count
    return [FIRST + at * step for at in range(count)]


def documents(count: int, shape: str, identities: int, *, first: int = 0) -> list[dict[str, Any]]:
    """`count` policy objects over that many identities, numbered from `first`."""
    make = _selective if shape == "selective" else _broad
    return [make(random.Random(at), at, identities) for at in range(first, first + count)]


def namespace(app: int) -> str:
    return f"ns-{app % NAMESPACES}"


def _selective(dice: random.Random, at: int, identities: int) -> dict[str, Any]:
    apps = identities // APP
    own, other = at % apps, dice.randrange(apps)
    peer = {"matchLabels": {"app": f"app-{other}", "k8s:io.kubernetes.pod.namespace": namespace(other)}}
    spec = {"endpointSelector": {"matchLabels": {"app": f"app-{own}"}}} | _rules(dice, at, peer)
    metadata = {"name": f"policy-{at}", "namespace": namespace(own)}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


def _broad(dice: random.Random, at: int, _identities: int) -> dict[str, Any]:
    subject, peer = ({"matchExpressions": [{"key": "shard", "operator": "In", "values": _half(dice)}]} for _ in "sp")
    spec = {"endpointSelector": subject} | _rules(dice, at, peer)
    metadata = {"name": f"policy-{at}"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": metadata, "spec": spec}


def _half(dice: random.Random) -> list[str]:
    return [f"s{shard}" for shard in sorted(dice.sample(range(SHARDS), SHARDS // 2))]


def _rules(dice: random.Random, at: int, peer: dict[str, Any]) -> dict[str, Any]:
    """Three of four policies are about ingress, one of ten denies, one of ten has a range of ports."""
    side, ends = ("egress", "toEndpoints") if at % 4 == 3 else ("ingress", "fromEndpoints")
    ports: list[dict[str, Any]] = [{"port": str(port), "protocol": "TCP"} for port in dice.sample(PORTS, 1 + at % 2)]
    if dice.random() < 0.1:
        first = dice.randrange(1024, 60000)
        ports.append({"port": str(first), "endPort": first + dice.randrange(1, 500), "protocol": "TCP"})
    name = side + "Deny" if dice.random() < 0.1 else side
    return {name: [{ends: [peer], "toPorts": [{"ports": ports}]}]}
