# SPDX-License-Identifier: Apache-2.0
"""The door to a cluster: what the connectivity test needs of one, whoever runs it.

A lab implements it in lab/cluster.py. For Kubernetes the same calls are: create and delete objects and wait for the
agents, `kubectl exec -i POD -- python3 -` with the actor's file, a host-network pod for `on_node`, port-forwards to the
Hubble servers, and `kubectl exec` of this command in the agents' pods for `explain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from ciliumpy.client.observer import Server
    from ciliumpy.model.options import PolicyOptions


class Node(Protocol):
    """A node and the addresses that it has for others, by family: {4: "172.30.0.11", 6: "fd00:…"}."""

    @property
    def name(self) -> str: ...

    @property
    def addresses(self) -> Mapping[int, str]: ...


class Cluster(Protocol):
    """All calls block and raise CiliumpyError with what is wrong and what to do."""

    name: str  # for people: "lab demo"

    def check(self) -> None:
        """CiliumpyError unless every agent is there and well."""
        ...

    def nodes(self) -> Sequence[Node]: ...

    def outside(self) -> Sequence[Mapping[int, str]]:
        """Addresses of a place that is not in the cluster and that actors can be started in; empty if there is none.

        Each by family; the first is that with which the place begins to talk.
        """
        ...

    def policy_options(self) -> PolicyOptions:
        """Return the agents' options that change what policies say and do."""
        ...

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Write objects; return when they are in force.

        Pods run and every node knows them by their labels, policies are enforced with what they name.
        """
        ...

    def audit(self, namespace: str, pod: str, *, on: bool) -> None:
        """Set a pod's audit mode; return when it is in force. Off is as the agent has it."""
        ...

    def delete(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Delete objects, a Namespace with all that is in it; return when that has its effect. Not there is well."""
        ...

    def addresses(self, namespace: str) -> Mapping[str, Mapping[int, str]]:
        """Return the addresses of the namespace's pods: name -> family -> address."""
        ...

    def in_pod(self, namespace: str, pod: str) -> subprocess.Popen[bytes]:
        """Start an actor in the pod, with its privileges."""
        ...

    def on_node(self, node: str) -> subprocess.Popen[bytes]:
        """Start an actor in the node's own network."""
        ...

    def out_there(self) -> subprocess.Popen[bytes]:
        """Start an actor outside of the cluster."""
        ...

    def hubble(self) -> Sequence[Server]:
        """Return the Hubble servers, one a node."""
        ...

    def explain(self, node: str, *command: str) -> str:
        """Return what a command of this program (`bpf ct list`) prints about the node."""
        ...

    def close(self) -> None:
        """Let go of what the actors needed; they have ended."""
        ...
