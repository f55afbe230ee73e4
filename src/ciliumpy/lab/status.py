# SPDX-License-Identifier: Apache-2.0
"""How a lab is: its store, nodes and pods, as one document."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import agents, cgroups, lifecycle, manifests, records, runtime, schedule, spec
from ciliumpy.store.directory.store import DirectoryStore

if TYPE_CHECKING:
    from ciliumpy.lab.place import Place

_POLL_S = 0.05


def status(place: Place) -> dict[str, Any]:
    """Return the LabStatus document; `errors` is empty if all is well."""
    lab = spec.read(place.file)
    snapshot = records.read(place)
    errors: list[str] = []
    if not lifecycle.controller_pid(place):
        errors.append(f"the controller does not run; `ciliumpy lab start` starts it, {place.run}/controller.log tells")
    if snapshot.store_message:
        errors.append(f"the store cannot be read: {snapshot.store_message}")
    errors += snapshot.problems
    nodes = []
    for node in lab.nodes:
        now = agents.state_of(place, node.name)
        nodes.append({"name": node.name, "state": now.state, "addresses": list(lab.address(node.name)), "pid": now.pid})
        errors += [f"node {node.name}: {problem}" for problem in now.problems]
        if now.state == "stopped":
            errors.append(f"node {node.name}: the agent does not run; `ciliumpy lab start {node.name}` starts it")
    return {
        "apiVersion": "ciliumpy/v1",
        "kind": "LabStatus",
        "name": place.name,
        "store": str(place.store),
        "nodes": nodes,
        "pods": [_pod(place, record) for record in snapshot.pods],
        "errors": errors,
    }


def _pod(place: Place, record: records.PodRecord) -> dict[str, Any]:
    group = runtime.pod_cgroup(place, record.node, record.container_id)
    return {
        "namespace": record.namespace,
        "name": record.name,
        "node": record.node,
        "addresses": record.addresses,
        "pids": cgroups.pids(group) if record.container_id else [],
        "phase": record.phase,
        "message": record.message,
    }


def pending(place: Place) -> list[str]:
    """Return what is not yet as the store says, in words: Deployments without all their pods, pods that do not run."""
    pods = records.read(place).pods
    running = {p.key for p in pods if p.phase == "Running"}
    why = {p.key: f": {p.message}" for p in pods if p.message}
    waiting: list[str] = []
    deployments: set[tuple[str, str]] = set()
    wanted_pods: set[tuple[str, str]] = set()
    with DirectoryStore(place.store).transaction() as store:
        for stored in store.list("Deployment"):
            wanted = manifests.deployment(stored.document)
            current = schedule.template_hash(wanted.template)
            own = [p for p in pods if (p.namespace, p.deployment) == (wanted.namespace, wanted.name)]
            have = sum(p.phase == "Running" and f"-{current}-" in p.name for p in own)
            if have != wanted.replicas or have != len(own):
                waiting.append(f"Deployment {wanted.namespace}/{wanted.name} has {have} of {wanted.replicas} pods")
            deployments.add((wanted.namespace, wanted.name))
        for stored in store.list("Pod"):
            key = (stored.key.namespace, stored.key.name)
            owner = schedule.owner_of(stored.document)
            if owner is None or (key[0], owner[0]) in deployments:
                wanted_pods.add(key)
    waiting += [f"{'/'.join(key)} does not run yet{why.get(key, '')}" for key in sorted(wanted_pods - running)]
    return waiting + [f"{'/'.join(p.key)} is {p.phase}" for p in pods if p.key not in wanted_pods]


def wait_settled(place: Place, timeout_s: float) -> None:
    """Return when every pod that shall run does, and no other. CiliumpyError that says what is missing."""
    deadline = time.monotonic() + timeout_s
    while waiting := pending(place):
        if time.monotonic() > deadline:
            raise CiliumpyError(
                f"not settled within {timeout_s:g} s: {'; '.join(waiting[:5])}", "see `ciliumpy lab status`"
            )
        time.sleep(_POLL_S)
