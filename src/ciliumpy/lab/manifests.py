# SPDX-License-Identifier: Apache-2.0
"""PURE: what a lab takes from Pod and Deployment manifests, and what of them has no effect in a lab.

Honoured: labels, nodeName, nodeSelector, hostname, restartPolicy, and of containers name, command, args, env (values),
workingDir, ports; of Deployments replicas and template. Everything else is accepted and named as without effect.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.options import PolicyOptions
from ciliumpy.store.decode import check_kind, decode
from ciliumpy.store.kinds import key_of

_LONGEST_HOSTNAME = 63
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_MOST_REPLICAS = 1000
# Known to everybody who writes a Pod, and without meaning where there are no images: not worth a notice.
_SILENT_SPEC = {"terminationGracePeriodSeconds", "dnsPolicy", "schedulerName", "serviceAccount", "serviceAccountName"}
_SILENT_CONTAINER = {"image", "imagePullPolicy"}
_SPEC = {"nodeName", "nodeSelector", "hostname", "restartPolicy", "containers"} | _SILENT_SPEC
_CONTAINER = {"name", "command", "args", "env", "workingDir", "ports"} | _SILENT_CONTAINER


class ContainerSpec(NamedTuple):
    name: str
    command: tuple[str, ...]  # empty: echo server
    environment: dict[str, str]
    directory: str
    ports: tuple[tuple[str, int], ...]  # (TCP, 8080)


class PodSpec(NamedTuple):
    """A Pod as the lab runs it. `unused` names the fields that have no effect, sorted."""

    namespace: str
    name: str
    uid: str
    node: str  # empty: the scheduler's choice
    selector: dict[str, str]
    hostname: str
    restart: str
    containers: tuple[ContainerSpec, ...]
    unused: tuple[str, ...]


class DeploymentSpec(NamedTuple):
    namespace: str
    name: str
    replicas: int
    template: dict[str, Any]  # metadata and spec of its Pods


def pod(document: dict[str, Any]) -> PodSpec:
    """Return what a Pod says. FieldError where it cannot be run."""
    metadata = document["metadata"]
    spec = _mapping(document.get("spec"), ("spec",))
    unused = {key for key in spec if key not in _SPEC}
    containers = []
    for entry, path in _entries(spec, "containers", ("spec",)):
        containers.append(_container(entry, path))
        unused |= {f"containers[].{key}" for key in entry if key not in _CONTAINER}
    if not containers:
        raise FieldError(("spec", "containers"), "must have at least one container")
    if len({c.name for c in containers}) < len(containers):
        raise FieldError(("spec", "containers"), "names must differ")
    restart = _text(spec, "restartPolicy", ("spec",), "Always")
    if restart not in _RESTART_POLICIES:
        raise FieldError(("spec", "restartPolicy"), f"must be one of {', '.join(_RESTART_POLICIES)}, not {restart!r}")
    name = metadata["name"]
    return PodSpec(
        namespace=metadata.get("namespace") or "default",
        name=name,
        uid=str(metadata.get("uid") or ""),
        node=_text(spec, "nodeName", ("spec",), ""),
        selector=_texts(spec, "nodeSelector", ("spec",)),
        hostname=_text(spec, "hostname", ("spec",), name)[:_LONGEST_HOSTNAME].rstrip(".-"),
        restart=restart,
        containers=tuple(containers),
        unused=tuple(sorted(unused)),
    )


def deployment(document: dict[str, Any]) -> DeploymentSpec:
    """Return what a Deployment says. FieldError where its Pods cannot be run."""
    metadata = document["metadata"]
    spec = _mapping(document.get("spec"), ("spec",))
    replicas = spec.get("replicas", 1)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= _MOST_REPLICAS:
        raise FieldError(("spec", "replicas"), f"must be a number from 0 to {_MOST_REPLICAS}, not {replicas!r}")
    template = _mapping(spec.get("template"), ("spec", "template"))
    labels = _texts(_mapping(template.get("metadata") or {}, ("spec", "template", "metadata")), "labels", ())
    selector = _mapping(spec.get("selector") or {}, ("spec", "selector"))
    for key, value in _texts(selector, "matchLabels", ("spec", "selector")).items():
        if labels.get(key) != value:
            path = ("spec", "selector", "matchLabels", key)
            raise FieldError(path, "does not match spec.template.metadata.labels")
    namespace = metadata.get("namespace") or "default"
    made = {"metadata": {"name": metadata["name"], "namespace": namespace}, "spec": template.get("spec")}
    try:
        pod(made)
    except FieldError as error:
        raise FieldError(("spec", "template", *error.path), error.message) from None
    return DeploymentSpec(namespace, metadata["name"], replicas, template)


def check(document: dict[str, Any]) -> None:
    """Raise FieldError if the agents refuse a Pod, Deployment or CiliumNode, or a lab cannot run it. Others pass."""
    if document["kind"] not in ("Pod", "Deployment", "CiliumNode"):
        return
    check_kind(document)
    decode(key_of(document), document, origin="", options=PolicyOptions())
    if document["kind"] == "Pod":
        pod(document)
    elif document["kind"] == "Deployment":
        deployment(document)


def unused(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields of a valid Pod or Deployment that have no effect in a lab."""
    if document["kind"] == "Pod":
        return pod(document).unused
    if document["kind"] == "Deployment":
        spec = document["spec"]
        own = sorted(set(spec) - {"replicas", "template", "selector", "strategy", "revisionHistoryLimit"})
        return (*own, *pod({"metadata": document["metadata"], "spec": spec["template"]["spec"]}).unused)
    return ()


def _container(entry: Any, path: Path) -> ContainerSpec:
    value = _mapping(entry, path)
    name = _text(value, "name", path, "")
    if not name:
        raise FieldError((*path, "name"), "is missing")
    environment: dict[str, str] = {}
    for variable, at in _entries(value, "env", path):
        each = _mapping(variable, at)
        key = _text(each, "name", at, "")
        if not key or "=" in key or "\0" in key:
            raise FieldError((*at, "name"), "must be the name of an environment variable")
        environment[key] = _text(each, "value", at, "")
    command = [*_words(value, "command", path)]
    if command:
        command += _words(value, "args", path)
    ports = tuple(_port(port, at) for port, at in _entries(value, "ports", path))
    directory = _text(value, "workingDir", path, "/")
    return ContainerSpec(name, tuple(command), environment, directory, ports)


def _port(entry: Any, path: Path) -> tuple[str, int]:
    value = _mapping(entry, path)
    number = value.get("containerPort")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 65536:
        raise FieldError((*path, "containerPort"), f"must be a port from 1 to 65535, not {number!r}")
    protocol = _text(value, "protocol", path, "TCP")
    if protocol not in _PROTOCOLS:
        raise FieldError((*path, "protocol"), f"must be one of {', '.join(_PROTOCOLS)}, not {protocol!r}")
    return protocol, number


def _mapping(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(path, "is missing" if value is None else "must be a mapping")
    return value


def _entries(value: dict[str, Any], key: str, path: Path) -> list[tuple[Any, Path]]:
    entries = value.get(key) or []
    if not isinstance(entries, list):
        raise FieldError((*path, key), "must be a list")
    return [(entry, (*path, key, index)) for index, entry in enumerate(entries)]


def _words(value: dict[str, Any], key: str, path: Path) -> list[str]:
    for entry, at in _entries(value, key, path):
        if not isinstance(entry, str) or "\0" in entry:
            raise FieldError(at, "must be text; put it in quotes")
    return list(value.get(key) or [])


def _text(value: dict[str, Any], key: str, path: Path, default: str) -> str:
    found = value.get(key)
    if found is None:
        return default
    if not isinstance(found, str) or "\0" in found:
        raise FieldError((*path, key), "must be text; put it in quotes")
    return found


def _texts(value: dict[str, Any], key: str, path: Path) -> dict[str, str]:
    found = value.get(key) or {}
    for name, text in _mapping(found, (*path, key)).items():
        if not isinstance(text, str):
            raise FieldError((*path, key, str(name)), "must be text; put it in quotes")
    return dict(found)
