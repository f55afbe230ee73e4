# SPDX-License-Identifier: Apache-2.0
"""`lab run`: one new pod for one command, as a Pod object like any other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import containers, lifecycle, manifests, objects, records, runtime, spec
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.store.directory.store import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ciliumpy.lab.place import Place
    from ciliumpy.store.interface import Key

_POLL_S = 0.02


def document(
    key: Key,
    *,
    node: str | None = None,
    labels: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    ports: Sequence[tuple[str, int]] = (),
    command: Sequence[str] = (),
    restart: str = "Always",
) -> dict[str, Any]:
    """PURE: return the Pod. Without a command it serves its ports, or waits."""
    container: dict[str, Any] = {"name": key.name}
    if command:
        container["command"] = list(command)
    if environment:
        container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    if ports:
        container["ports"] = [{"containerPort": number, "protocol": protocol} for protocol, number in ports]
    pod: dict[str, Any] = {"restartPolicy": restart, "containers": [container]}
    if node is not None:
        pod["nodeName"] = node
    metadata = {"name": key.name, "namespace": key.namespace, "labels": dict(labels or {"run": key.name})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def create(place: Place, key: Key, made: dict[str, Any]) -> None:
    """Write the Pod. CiliumpyError if its name is taken, or it can not run in this lab."""
    if not lifecycle.controller_pid(place):
        raise CiliumpyError("the lab's controller does not run", "`ciliumpy lab start` starts it")
    if node := made["spec"].get("nodeName"):
        lifecycle.nodes_of(spec.read(place.file), [node])
    try:
        manifests.check(made)
    except FieldError as error:
        raise CiliumpyError(f"{key}: {path_text(error.path)}: {error.message}", exit_code=2) from error
    with DirectoryStore(place.store).transaction() as store:
        spaces = {"default", *(stored.key.name for stored in store.list("Namespace"))}
        spaces |= {stored.key.namespace for kind in ("Pod", "Deployment") for stored in store.list(kind)}
        if key.namespace not in spaces:
            have = ", ".join(sorted(spaces))
            raise CiliumpyError(f"there is no namespace {key.namespace!r} (there are: {have})", exit_code=2)
        if store.get("Pod", key.name, key.namespace) is not None:
            raise CiliumpyError(
                f"{key} is there already", f"`ciliumpy lab exec {key.namespace}/{key.name} -- COMMAND` runs in it", 1
            )
        store.create(made)


def wait_running(place: Place, key: Key, timeout_s: float) -> records.PodRecord:
    """Return the pod when it runs. CiliumpyError that says what keeps it, or that it will not get well."""
    deadline = time.monotonic() + timeout_s
    said = "the controller has not seen it"
    while time.monotonic() < deadline:
        record = next((p for p in records.read(place).pods if p.key == (key.namespace, key.name)), None)
        if record is not None:
            said = record.message or record.phase
        if record is not None and record.phase == "Running":
            health = containers.read(runtime.state_file(place, record.container_id))
            if health.failed:
                raise CiliumpyError(
                    f"{key}: {health.message}", f"`ciliumpy lab logs {key.namespace}/{key.name}` shows what it wrote"
                )
            if health.settled:
                return record
        time.sleep(_POLL_S)
    raise CiliumpyError(f"{key} does not run after {timeout_s:g} s: {said}", "see `ciliumpy lab status`")


def remove(place: Place, key: Key) -> None:
    """Delete the Pod; return when it is gone, or after 10 s."""
    objects.delete(place, [key])
    deadline = time.monotonic() + 10.0
    while any(p.key == (key.namespace, key.name) for p in records.read(place).pods):
        if time.monotonic() > deadline:
            raise CiliumpyError(f"{key} is still there after 10 s", "see `ciliumpy lab status`")
        time.sleep(_POLL_S)
