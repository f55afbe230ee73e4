# SPDX-License-Identifier: Apache-2.0
"""A lab as the connectivity test sees a cluster (its side of connectivity/cluster.py)."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import agents, cgroups, machine, objects, records, runtime, spec, status, taken, wire
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ciliumpy.client.observer import Server
    from ciliumpy.lab.place import Place
    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.store.interface import Key

_TIMEOUT_S = 60.0
_POLL_S = 0.02
_ACTOR = "ciliumpy.connectivity.actor"


class LabNode(NamedTuple):
    name: str
    addresses: Mapping[int, str]


class LabCluster:
    """One lab, which is left as it was found: what was applied is to be deleted by who applied it."""

    def __init__(self, place: Place) -> None:
        machine.need_root()
        self._place = place
        self._lab = spec.read(place.file)
        self._groups: list[Path] = []
        self.name = f"lab {place.name}"

    def check(self) -> None:
        faults = []
        for node in self._lab.nodes:
            now = agents.state_of(self._place, node.name)
            if now.state == "stopped":
                raise CiliumpyError(
                    f"the agent of node {node.name} does not run", f"`ciliumpy lab start {node.name}` starts it"
                )
            faults += [f"node {node.name}: {problem}" for problem in now.problems]
            if now.state != "ok" and not now.problems:
                faults.append(f"node {node.name} is {now.state}")
        if faults:
            raise CiliumpyError(f"{self.name} is not well: {'; '.join(faults[:3])}", "`ciliumpy status` tells more")
        status.pending(self._place)  # refuses where no controller runs

    def nodes(self) -> Sequence[LabNode]:
        return [LabNode(n.name, _by_family(self._lab.address(n.name))) for n in self._lab.nodes]

    def outside(self) -> Sequence[Mapping[int, str]]:
        return [_by_family(spec.WORLD_ADDRESSES), _by_family(spec.WORLD_OTHERS)]

    def policy_options(self) -> PolicyOptions:
        return self._lab.policy_options()

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        policies = taken.Policies(self._place)
        manifests = [objects.Manifest(key_of(dict(document)), dict(document), "") for document in documents]
        done = objects.apply(self._place, manifests)
        pods = [m.key for m in manifests if m.key.kind == "Pod"]
        if pods:
            self._wait(lambda: self._late(pods), "not all pods run")
            addresses = [a for key in pods for a in self.addresses(key.namespace)[key.name].values()]
            self._wait(lambda: self._unknown(addresses), "not every node knows all pods")
        policies.wait({manifest.key: what for manifest, what in done})
        again = {m.key: m.document["metadata"].get("labels", {}) for m, what in done if what == "configured"}
        if labels := {key: of for key, of in again.items() if key.kind == "Pod"}:
            self._wait(lambda: self._unlabelled(labels), "not every node knows a pod by its labels")

    def delete(self, documents: Sequence[Mapping[str, Any]]) -> None:
        policies = taken.Policies(self._place)
        done = objects.delete(self._place, [key_of(dict(document)) for document in documents])
        policies.wait({key: "deleted" for key, there in done if there})
        spaces = {key.name for key, _ in done if key.kind == "Namespace"}
        if spaces:
            self._wait(lambda: [p.name for p in self._records() if p.namespace in spaces], "pods do not end")

    def close(self) -> None:
        for group in self._groups:
            cgroups.remove(group)

    def _records(self) -> list[records.PodRecord]:
        return records.read(self._place).pods

    def _late(self, keys: Sequence[Key]) -> list[str]:
        phases = {p.key: (p.phase, p.message) for p in self._records()}
        late = []
        for key in keys:
            phase, message = phases.get((key.namespace, key.name), ("not there yet", ""))
            if phase != "Running":
                late.append(f"{key.namespace}/{key.name} is {phase}" + (f": {message}" if message else ""))
        return late

    def _unknown(self, addresses: Sequence[str]) -> list[str]:
        late = []
        for each in target.targets(self._place.name):
            rows = AdminClient.of(each).get("/v1/statedb/ipcache")["items"]
            done = {
                row["row"]["prefix"].partition("/")[0] for row in rows if row.get("status", {}).get("state") == "done"
            }
            late += [f"node {each.node} lacks {address}" for address in addresses if address not in done]
        return late

    def _unlabelled(self, labels: Mapping[Key, Mapping[str, str]]) -> list[str]:
        """Return who judges pods by other labels still: the datapath of the pod's own node, or an address elsewhere."""
        wanted = {
            address: {f"k8s:{name}={value}" for name, value in own.items()}
            for key, own in labels.items()
            for address in self.addresses(key.namespace)[key.name].values()
        }
        late = []
        for each in target.targets(self._place.name):
            client = AdminClient.of(each)
            known = {i["row"]["id"]: set(i["row"]["labels"]) for i in client.get("/v1/statedb/identities")["items"]}
            rows = [(row, row["row"]["prefix"].partition("/")[0]) for row in client.get("/v1/statedb/ipcache")["items"]]
            endpoints = client.get("/v1/statedb/kernel-endpoints")["items"]
            rows += [(row, row["row"][family]) for row in endpoints for family in ("ipv4", "ipv6")]
            for row, address in rows:
                done = row.get("status", {}).get("state") == "done"
                if address in wanted and not (done and wanted[address] <= known.get(row["row"]["identity"], set())):
                    late.append(f"node {each.node}: {address}")
            if client.get("/v1/status")["policy"].get("pending"):
                late.append(f"node {each.node}: policy")
        return late

    def audit(self, namespace: str, pod: str, *, on: bool) -> None:
        record = records.find(self._place, f"{namespace}/{pod}")
        home = next(each for each in target.targets(self._place.name) if each.node == record.node)
        client = AdminClient.of(home)
        number = next(
            item["id"]
            for item in client.get("/v1/endpoints")["items"]
            if (item["namespace"], item["pod"]) == (namespace, pod)
        )
        client.put(f"/v1/endpoints/{number}/config", {"PolicyAuditMode": "Enabled" if on else "Default"})

    @staticmethod
    def _wait(late: Callable[[], list[str]], what: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while missing := late():
            if time.monotonic() > deadline:
                raise CiliumpyError(
                    f"{what} after {_TIMEOUT_S:g} s: {'; '.join(missing[:3])}", "see `ciliumpy lab status`"
                )
            time.sleep(_POLL_S)

    def addresses(self, namespace: str) -> Mapping[str, Mapping[int, str]]:
        return {p.name: _by_family(p.addresses) for p in self._records() if p.namespace == namespace}

    def in_pod(self, namespace: str, pod: str) -> subprocess.Popen[bytes]:
        record = records.find(self._place, f"{namespace}/{pod}")
        group = runtime.pod_cgroup(self._place, record.node, record.container_id)
        return _start({"cgroup": str(group), "pid": record.pid})

    def on_node(self, node: str) -> subprocess.Popen[bytes]:
        return self._in_namespace(node, self._place.cgroup / node / f"actor-{os.getpid()}")

    def out_there(self) -> subprocess.Popen[bytes]:
        return self._in_namespace(wire.WORLD, self._place.cgroup / f"actor-{os.getpid()}")

    def _in_namespace(self, name: str, group: Path) -> subprocess.Popen[bytes]:
        cgroups.make(group)
        self._groups.append(group)
        return _start({"cgroup": str(group), "netns": str(self._place.netns(name))})

    def hubble(self) -> Sequence[Server]:
        from ciliumpy.client.observer import Server

        return [Server(each.node, str(each.hubble_socket)) for each in target.targets(self._place.name)]

    def explain(self, node: str, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ciliumpy.cli", *command, "--lab", self._place.name, "--node", node],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=_TIMEOUT_S,
        )
        return done.stdout or done.stderr


def _by_family(addresses: Sequence[str]) -> Mapping[int, str]:
    return {ipaddress.ip_address(address).version: address for address in addresses}


def _start(place: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C is for who has started it, and it ends with its input.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ciliumpy.lab.inside", _ACTOR, json.dumps(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
