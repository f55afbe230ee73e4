# SPDX-License-Identifier: Apache-2.0
"""A lab of its own for a benchmark, filled with policies and identities, and removed whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROUPS = 1000


@dataclass(frozen=True)
class BenchLab:
    """A running lab; `status` is that of its first node."""

    name: str

    @property
    def run(self) -> Path:
        return Path("/run/ciliumpy/labs") / self.name

    @property
    def store(self) -> Path:
        return self.run / "store"

    def cli(self, *arguments: str) -> str:
        """Run one of our commands and return what it prints."""
        command = [sys.executable, "-m", "ciliumpy.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What the first node's agent says of itself."""
        return self.statuses()[0]

    def statuses(self) -> list[dict[str, Any]]:
        """What each agent says of itself, by node."""
        return json.loads(self.cli("status", "--lab", self.name, "-o", "json"))["items"]

    def apply(self, *documents: dict[str, Any], name: str) -> None:
        """Put objects into the store as a user's file, whole at once."""
        write_whole(self.store / f"{name}.yaml", documents)

    def pods(self) -> dict[str, dict[str, Any]]:
        """Pods by name, as `lab status` gives them."""
        return {p["name"]: p for p in json.loads(self.cli("lab", "status", "--lab", self.name, "-o", "json"))["pods"]}


@contextlib.contextmanager
def bench_lab(nodes: tuple[str, ...] = ("n1",), **agent: Any) -> Iterator[BenchLab]:
    """A lab of these nodes; `agent` is merged into the agents' configuration."""
    lab = BenchLab(f"bench{os.getpid()}")
    spec = Path(f"/tmp/{lab.name}.yaml")
    # A pod CIDR as wide as a thousand endpoints want.
    spec.write_text(json.dumps({"nodes": nodes, "agent": {"ipam": {"nodeMaskSizes": [20, 64]}, **agent}}))
    try:
        lab.cli("lab", "up", lab.name, "-f", str(spec))
        yield lab
    finally:
        spec.unlink()
        subprocess.run(
            [sys.executable, "-m", "ciliumpy.cli", "lab", "down", lab.name], check=False, capture_output=True
        )


def write_whole(path: Path, documents: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> None:
    """Write a file of several documents so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_text("\n---\n".join(json.dumps(d) for d in documents))
    hidden.rename(path)


def identities(count: int, *, first: int = 10_000) -> list[dict[str, Any]]:
    """`count` identities spread over 1,000 groups."""
    return [
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumIdentity",
            "metadata": {"name": str(first + n)},
            "security-labels": {
                "k8s:group": f"g{n % GROUPS}",
                "k8s:member": f"m{n}",
                "k8s:io.cilium.k8s.policy.cluster": "default",
                "k8s:io.kubernetes.pod.namespace": "bench",
            },
        }
        for n in range(count)
    ]


def put_identities(lab: BenchLab, count: int) -> None:
    """In files of 1,000, as a file has a size limit."""
    rows = identities(count)
    for start in range(0, count, GROUPS):
        lab.apply(*rows[start : start + GROUPS], name=f"identities-{start}")


def policy(name: str, subject: dict[str, str], **rules: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {"endpointSelector": {"matchLabels": subject}, **rules},
    }


def pod(name: str, labels: dict[str, str], *ports: int, node: str = "n1") -> dict[str, Any]:
    containers = [{"name": "main", "ports": [{"containerPort": p} for p in ports]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "bench", "labels": labels},
        "spec": {"nodeName": node, "containers": containers},
    }


def namespace() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}


def wait_for(what: str, done: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.05)
