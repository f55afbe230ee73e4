# SPDX-License-Identifier: Apache-2.0
"""PURE: the /etc/hosts of a lab's pods. A Deployment's name means all its running pods, and goes before a Pod's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_HEAD = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class Named(NamedTuple):
    """A running pod. `deployment` is empty for a pod of its own."""

    namespace: str
    pod: str
    deployment: str
    addresses: Sequence[str]


def render(namespace: str, pods: Iterable[Named], others: Mapping[str, Sequence[str]]) -> str:
    """Return the file for the pods of `namespace`; `others` are names that mean the same everywhere (world, nodes)."""
    names: dict[str, list[str]] = {}
    ordered = sorted(pods)
    deployments = {(p.namespace, p.deployment) for p in ordered if p.deployment}
    for pod in ordered:
        if pod.deployment:
            _add(names, namespace, pod.namespace, pod.deployment, pod.addresses)
        if (pod.namespace, pod.pod) not in deployments:
            _add(names, namespace, pod.namespace, pod.pod, pod.addresses)
    for name, addresses in others.items():
        names.setdefault(name, list(addresses))
    by_address: dict[str, list[str]] = {}
    for name, addresses in names.items():
        for address in addresses:
            by_address.setdefault(address, []).append(name)
    return _HEAD + "".join(f"{address}\t{' '.join(given)}\n" for address, given in by_address.items())


def _add(names: dict[str, list[str]], here: str, namespace: str, name: str, addresses: Sequence[str]) -> None:
    short = (name,) if namespace == here else ()
    for alias in (*short, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"):
        names.setdefault(alias, []).extend(addresses)
