# SPDX-License-Identifier: Apache-2.0
"""How a lab is: its store, nodes and pods, as one document."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import agents, cgroups, containers, lifecycle, manifests, records, runtime, schedule, spec
from ciliumpy.model.errors import FieldError
from ciliumpy.store.directory.store import DirectoryStore

if TYPE_CHECKING:
    from ciliumpy.lab.place import Place
    from ciliumpy.store.interface import Stored

_POLL_S = 0.05
_SHARE, _LONGEST_PAUSE_S = 5, 0.5


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
    pods = [_pod(place, record) for record in snapshot.pods]
    errors += [
        f"pod {pod['namespace']}/{pod['name']}: {pod['phase']}: {pod['message']}" for pod in pods if pod["message"]
    ]
    return {
        "apiVersion": "ciliumpy/v1",
        "kind": "LabStatus",
        "name": place.name,
        "store": str(place.store),
        "nodes": nodes,
        "pods": pods,
        "errors": errors,
    }


def _pod(place: Place, record: records.PodRecord) -> dict[str, Any]:
    group = runtime.pod_cgroup(place, record.node, record.container_id)
    health = _health(place, record)
    return {
        "namespace": record.namespace,
        "name": record.name,
        "node": record.node,
        "addresses": record.addresses,
        "pids": cgroups.pids(group) if record.container_id else [],
        "phase": health.phase,
        "message": record.message or health.message,
    }


def _health(place: Place, record: records.PodRecord) -> containers.Health:
    """Return how the pod's containers are, where it runs; else the phase that the controller gives it."""
    if record.phase != "Running":
        return containers.Health(record.phase, settled=False)
    return containers.read(runtime.state_file(place, record.container_id))


class Pending(NamedTuple):
    """What is not yet as the store says, in words."""

    missing: list[str]  # Deployments without all their pods, pods that do not run
    leaving: list[str]  # pods that shall not be
    failed: list[str]  # pods that run and will not get well


def pending(place: Place) -> Pending:
    """Return what is not yet as the store says.

    CiliumpyError if there is nobody who would make it so.
    """
    snapshot = records.read(place)
    controller = lifecycle.controller_pid(place)
    if not controller:
        raise CiliumpyError(
            "the controller does not run: no pod is started or stopped", "`ciliumpy lab start` starts it"
        )
    if snapshot.controller != controller:
        unread = ["the controller has not read the store yet"]
        return Pending(unread, unread, [])
    pods = snapshot.pods
    health = {p.key: _health(place, p) for p in pods}
    running = {key for key, now in health.items() if now.settled}
    why = {p.key: f": {text}" for p in pods if (text := p.message or health[p.key].message)}
    waiting: list[str] = []
    deployments: set[tuple[str, str]] = set()
    wanted_pods: set[tuple[str, str]] = set()
    refused: set[tuple[str, str]] = set()  # they stay as they are, which `lab status` tells
    with DirectoryStore(place.store).transaction() as store:
        for stored in store.list("Deployment"):
            if not _is_taken(stored):
                deployments.add((stored.key.namespace, stored.key.name))
                continue
            wanted = manifests.deployment(stored.document)
            current = schedule.template_hash(wanted.template)
            own = [p for p in pods if (p.namespace, p.deployment) == (wanted.namespace, wanted.name)]
            have = sum(p.phase == "Running" and f"-{current}-" in p.name for p in own)
            if have != wanted.replicas or have != len(own):
                waiting.append(f"Deployment {wanted.namespace}/{wanted.name} has {have} of {wanted.replicas} pods")
            deployments.add((wanted.namespace, wanted.name))
            # Pods of another template are about to go: how they are matters no more.
            health |= {p.key: containers.Health("Terminating") for p in own if f"-{current}-" not in p.name}
        for stored in store.list("Pod"):
            key = (stored.key.namespace, stored.key.name)
            if not _is_taken(stored):
                refused.add(key)
                continue
            owner = schedule.owner_of(stored.document)
            if owner is None or (key[0], owner[0]) in deployments:
                wanted_pods.add(key)
    waiting += [f"{'/'.join(key)} does not run yet{why.get(key, '')}" for key in sorted(wanted_pods - running)]
    leaving = [f"{'/'.join(p.key)} is {p.phase}" for p in pods if p.key not in wanted_pods | refused]
    failed = [f"{'/'.join(key)}{why[key]}" for key in sorted(wanted_pods) if key in health and health[key].failed]
    return Pending(waiting, leaving, failed)


def _is_taken(stored: Stored) -> bool:
    try:
        manifests.check(stored.document)
    except FieldError:
        return False
    return True


def wait_settled(place: Place, timeout_s: float) -> None:
    """Return when every pod that shall run does, and no other. CiliumpyError that says what is missing.

    It does not wait for what only a change of the pod can mend: a container that cannot be started, or ends over and
    over again.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        now = pending(place)
        if now.failed:
            raise CiliumpyError(
                f"not all pods run: {'; '.join(now.failed[:5])}", "`ciliumpy lab logs POD` shows what they wrote"
            )
        waiting = now.missing + now.leaving
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise CiliumpyError(
                f"not settled within {timeout_s:g} s: {'; '.join(waiting[:5])}", "see `ciliumpy lab status`"
            )
        # Looking at hundreds of pods takes the time of those that start them.
        time.sleep(max(_POLL_S, min(_SHARE * (time.monotonic() - began), _LONGEST_PAUSE_S)))


def wait_gone(place: Place, timeout_s: float) -> None:
    """Return when no pod is there that shall not be. CiliumpyError that names those that are."""
    deadline = time.monotonic() + timeout_s
    while leaving := pending(place).leaving:
        if time.monotonic() > deadline:
            raise CiliumpyError(
                f"still there after {timeout_s:g} s: {'; '.join(leaving[:5])}", "see `ciliumpy lab status`"
            )
        time.sleep(_POLL_S)
