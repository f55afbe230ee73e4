# SPDX-License-Identifier: Apache-2.0
"""Labs for tests: made and removed by the command itself, and searched for what is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ciliumpy.lab.machine import BPFFS, cgroup_root, mounts

COMMAND = [sys.executable, "-P", "-m", "ciliumpy.cli"]


class LabUnderTest:
    """A lab by its name. `run` is the command line, `exec` a command in a pod."""

    def __init__(self, name: str, *, timeout_s: float = 60.0) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.path = Path("/run/ciliumpy/labs") / name

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=self.timeout_s, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} -> {done.returncode}\n{done.stdout}{done.stderr}\n{self.logs()}")
        return done

    def lab(self, *arguments: str, **more) -> subprocess.CompletedProcess[str]:
        verb, *rest = arguments
        if verb in {"up", "down"}:
            return self.run("lab", verb, self.name, *rest, **more)
        return self.run("lab", verb, "--lab", self.name, *rest, **more)

    def exec(self, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
        return self.lab("exec", pod, "--", *command, check=False)

    def apply(self, manifest: str, *flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab("apply", "-f", "-", *flags, stdin=manifest, check=check)

    def status(self) -> dict:
        return json.loads(self.lab("status", "-o", "json", check=False).stdout)

    def pods(self, deployment: str = "") -> dict[str, dict]:
        return {p["name"]: p for p in self.status()["pods"] if p["name"].startswith(deployment)}

    def logs(self) -> str:
        found = ""
        for path in [*self.path.glob("*.log"), *self.path.glob("*/agent.log")]:
            with suppress(OSError):
                found += f"--- {path}\n{path.read_text()[-2000:]}\n"
        return found


def eventually(condition, timeout_s: float = 20.0):
    """Return what `condition` returns once that is true; its last value is in the error."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition} is {value!r} after {timeout_s} s")
        time.sleep(0.05)
    return value


def leftovers(name: str) -> list[str]:
    """Return all that is left of a lab: files, pins, cgroups, mounts, processes."""
    places = [
        Path("/run/ciliumpy/labs") / name,
        Path("/run/ciliumpy/labs") / f".{name}.lock",
        BPFFS / "ciliumpy/labs" / name,
        cgroup_root() / "ciliumpy/labs" / name,
    ]
    found = [str(path) for path in places if path.exists()]
    found += [f"mount {m.point}" for m in mounts() if f"labs/{name}/" in f"{m.point}/"]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = (process / "cgroup").read_text()
            named = f"labs/{name}/" in f"{command}/{group.replace(chr(10), '/')}"
            # One without a command line has ended; the machine's first process has yet to take note of it.
            if named and command and int(process.name) != os.getpid():
                found.append(f"process {process.name} {command}")
    return found


APPS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: guest}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {tier: api}}
  template:
    metadata: {labels: {tier: api}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}, {containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: frontend, namespace: shop, labels: {tier: frontend}}
spec: {nodeName: n1, containers: [{name: c, command: [sh, -c, "echo hello; echo trouble >&2; exec sleep 1000"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: guest, labels: {app: visitor}}
spec: {nodeName: n2, containers: [{name: c}]}
"""

POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {tier: api}}
  ingress:
    - fromEndpoints: [{matchLabels: {tier: frontend}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""
