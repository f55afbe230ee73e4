# SPDX-License-Identifier: Apache-2.0
"""Bare endpoints: pods without processes, each a namespace of its own, plugged in over the agent's own doors."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ciliumpy.cni import agent, install
from ciliumpy.cni.protocol import Request
from ciliumpy.net import netns
from tests.bench.lab import BenchLab, pod, wait_for

AT_ONCE = 8


def _idle(number: int) -> dict[str, str]:
    return {"role": "idle", "group": f"g{number}"}


class Plugs:
    """Plugs pods of the namespace `bench` in; their network namespaces are bind mounts in `folder` until `close`."""

    def __init__(self, lab: BenchLab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._socket = str(lab.run / "n1" / "cni.sock")
        self._count = 0

    def by_plugin(self, names: list[str]) -> list[float]:
        """Plug pods in as a runtime does, one after another; return the plugin's seconds, start to end.

        The agent knows them by then, as it does when a kubelet gets to that: scheduling comes long before.
        """
        requests = self._requests(names)
        wait_for("the agent knows the pods", lambda: set(names) <= self._known())
        return [self._by_plugin(request) for request in requests]

    def _known(self) -> set[str]:
        rows = json.loads(self._lab.cli("statedb", "dump", "pods", "--lab", self._lab.name, "-o", "json"))["items"]
        return {row["row"]["name"] for row in rows}

    def at_once(self, names: list[str]) -> tuple[float, int]:
        """Plug pods in by as many processes; return the seconds until the last has ended, and how many failed."""
        requests = self._requests(names)
        wait_for("the agent knows the pods", lambda: set(names) <= self._known())
        before = time.perf_counter()
        with ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(self._run, requests))
        took = time.perf_counter() - before
        return took, sum(answer.returncode != 0 for answer in answers)

    def _by_plugin(self, request: Request) -> float:
        before = time.perf_counter()
        done = self._run(request)
        took = time.perf_counter() - before
        if done.returncode:
            raise RuntimeError(done.stdout.decode())
        return took

    def _run(self, request: Request) -> subprocess.CompletedProcess[bytes]:
        config = {"cniVersion": "1.1.0", "name": "bench", "type": "ciliumpy-cni", "agentSocket": self._socket}
        environment = {
            **os.environ,
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": request.container_id,
            "CNI_NETNS": request.netns,
            "CNI_IFNAME": request.ifname,
            "CNI_PATH": "/nonexistent",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=bench;K8S_POD_NAME={request.pod_name}",
        }
        return subprocess.run(
            install.command(), input=json.dumps(config).encode(), env=environment, capture_output=True, check=False
        )

    def endpoints(self, count: int, *, labels: Callable[[int], dict[str, str]] = _idle, space: str = "bench") -> None:
        """Plug `count` more pods in, several at once: number n has `labels(n)`, all are of the namespace `space`."""
        first = self._count
        requests = self._requests([f"ep-{first + n}" for n in range(count)], labels, space)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._ask, requests))

    def _requests(
        self, names: list[str], labels: Callable[[int], dict[str, str]] = _idle, space: str = "bench"
    ) -> list[Request]:
        """Tell the store of the pods, then say how to plug them in."""
        requests = []
        for name in names:
            self._count += 1
            path = self._folder / name
            os.close(netns.new_namespace(path))
            requests.append(
                Request(
                    container_id=f"bench-{name}",
                    ifname="eth0",
                    netns=str(path),
                    pod_namespace=space,
                    pod_name=name,
                    pod_uid="",
                )
            )
        documents = [pod(name, labels(n)) for n, name in enumerate(names)]
        for document in documents:
            document["metadata"]["namespace"] = space
        for start in range(0, len(documents), 500):
            self._lab.apply(*documents[start : start + 500], name=f"idle-{names[start]}")
        return requests

    def _ask(self, request: Request) -> None:
        fd = netns.open_path(request.netns)
        try:
            agent.ask(self._socket, request.message("ADD"), fd, 60)
        finally:
            os.close(fd)

    def close(self) -> None:
        for path in self._folder.iterdir():
            netns.remove_namespace(path)
