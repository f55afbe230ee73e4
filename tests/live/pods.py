# SPDX-License-Identifier: Apache-2.0
"""A lab of pods, each with a probe in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.connectivity.handle import Handle
from ciliumpy.lab import records, runtime
from ciliumpy.lab.cluster import LabCluster
from ciliumpy.lab.place import Place
from ciliumpy.model.labels import pod_labels
from tests.process.lab_support import LabUnderTest, eventually, leftovers

PROBE = "tests.live.probe"
ROOT = str(Path(__file__).parents[2])


class Pods:
    """What of a cluster's objects is in force, and what pods can do in it. Pods are `namespace/name`."""

    def __init__(self, under_test: LabUnderTest) -> None:
        self._lab = under_test
        self._place = Place.of(under_test.name)
        self._cluster = LabCluster(self._place)
        self._handles: dict[str, Handle] = {}
        self._clients = [AdminClient.of(each) for each in target.targets(under_test.name)]
        self.documents: dict[str, Mapping[str, Any]] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}

    # ---- objects -----------------------------------------------------------------------------------------------------

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Write them; return when every node acts by them."""
        self._cluster.apply(documents)
        for each in documents:
            if each["kind"] in ("Namespace", "Pod"):
                self._note(each)
        if any(each["kind"] in ("Namespace", "Pod") for each in documents):
            self._labels_known()

    def delete(self, *documents: Mapping[str, Any]) -> None:
        self._cluster.delete(documents)
        for each in documents:
            if each["kind"] == "Pod":
                self._forget(name_of(each))
            elif each["kind"] == "Namespace":
                self.namespaces.pop(each["metadata"]["name"], None)
                for pod in [pod for pod in self.documents if pod.startswith(each["metadata"]["name"] + "/")]:
                    self._forget(pod)

    def labels(self, pod: str) -> tuple[str, ...]:
        """The identity labels that the pod is to have."""
        namespace, _ = pod.split("/")
        metadata = self.documents[pod]["metadata"]
        own = {"kubernetes.io/metadata.name": namespace} | dict(self.namespaces.get(namespace, {}))
        return pod_labels(
            namespace, metadata.get("labels", {}).items(), namespace_labels=own.items(), service_account="default"
        )

    def address(self, pod: str, family: int) -> str:
        namespace, name = pod.split("/")
        return self._cluster.addresses(namespace)[name][family]

    def _note(self, document: Mapping[str, Any]) -> None:
        if document["kind"] == "Namespace":
            self.namespaces[document["metadata"]["name"]] = document["metadata"].get("labels", {})
        else:
            self.documents[name_of(document)] = document

    def _forget(self, pod: str) -> None:
        self.documents.pop(pod, None)
        if handle := self._handles.pop(pod, None):
            handle.close()

    def _labels_known(self) -> None:
        """Wait until every node judges every pod by the labels that it has now."""
        wanted = {
            address: self.labels(pod)
            for pod in self.documents
            for address in self._cluster.addresses(pod.split("/")[0])[pod.split("/")[1]].values()
        }
        for client in self._clients:
            eventually(lambda client=client: not _behind(client, wanted), timeout_s=30.0)  # type: ignore[misc]

    # ---- probes ------------------------------------------------------------------------------------------------------

    def enter(self, pods: Sequence[str]) -> None:
        for pod in pods:
            record = records.find(self._place, pod)
            group = runtime.pod_cgroup(self._place, record.node, record.container_id)
            where = json.dumps({"cgroup": str(group), "pid": record.pid})
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ciliumpy.lab.inside", PROBE, where],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                env={**os.environ, "PYTHONPATH": ROOT},
                start_new_session=True,
            )
            self._handles[pod] = Handle(pod, process)

    def ask(self, pod: str, do: str, *, timeout_s: float = 10.0, **request: Any) -> dict[str, Any]:
        return self._handles[pod].ask(do, timeout_s=timeout_s, **request)

    def drops(self, source: str, destination: str, port: int) -> str:
        """What the nodes say of the last datagrams between two pods that they dropped."""
        asked = ("--from-pod", source, "--to-pod", destination, "--to-port", str(port), "-t", "drop", "--last", "20")
        return self._lab.run("observe", "--lab", self._lab.name, *asked, check=False).stdout

    def close(self) -> None:
        for handle in self._handles.values():
            handle.close()


def _behind(client: AdminClient, wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
    status = client.get("/v1/status")
    if status["policy"].get("pending"):
        return ["policy"]
    identities = {
        row["row"]["id"]: tuple(row["row"]["labels"]) for row in client.get("/v1/statedb/identities")["items"]
    }
    known = {}
    for item in client.get("/v1/statedb/ipcache")["items"]:
        if item.get("status", {}).get("state") == "done":
            known[item["row"]["prefix"].partition("/")[0]] = identities.get(item["row"]["identity"])
    late = [address for address, labels in wanted.items() if known.get(address) != labels]
    for item in client.get("/v1/statedb/kernel-endpoints")["items"]:
        own = [address for address in (item["row"]["ipv4"], item["row"]["ipv6"]) if address in wanted]
        labels = identities.get(item["row"]["identity"]) if item.get("status", {}).get("state") == "done" else None
        late += [address for address in own if labels != wanted[address]]
    return late


def name_of(document: Mapping[str, Any]) -> str:
    return f"{document['metadata']['namespace']}/{document['metadata']['name']}"


def namespace(name: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def pod(
    where: str, labels: Mapping[str, str], node: str, ports: Sequence[Mapping[str, Any]], *command: str
) -> Mapping[str, Any]:
    home, name = where.split("/")
    container: dict[str, Any] = {"name": "c", "ports": list(ports)}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": home, "labels": dict(labels)},
        "spec": {"nodeName": node, "containers": [container]},
    }


@contextmanager
def lab(name: str, *arguments: str) -> Iterator[Pods]:
    """A lab that leaves nothing behind."""
    made = LabUnderTest(name)
    pods = None
    try:
        made.lab("up", *arguments)
        pods = Pods(made)
        yield pods
    finally:
        if pods is not None:
            pods.close()
        made.lab("down", check=False)
    assert leftovers(name) == []
