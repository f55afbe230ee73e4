# SPDX-License-Identifier: Apache-2.0
"""What a container runtime does for one pod: namespace, cgroup, CNI, processes; and all of it back. Blocking."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ciliumpy
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import cgroups
from ciliumpy.net import netns

if TYPE_CHECKING:
    from ciliumpy.lab.manifests import PodSpec
    from ciliumpy.lab.place import Place

_CNI_VERSION = "1.1.0"
_CNI_TIMEOUT_S = 60.0
_INTERFACE = "eth0"
_PLUGIN = Path(ciliumpy.__file__).parent / "cni" / "launcher.py"


class Zygote:
    """The process that pods are forked from; started when it is first needed, and again if it has ended."""

    def __init__(self, group: Path) -> None:
        self._group = group
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, request: dict[str, Any]) -> int:
        """Return the PID of the new pod's first process. CiliumpyError if it could not be set up."""
        with self._lock:
            for _ in range(2):
                line = self._ask(json.dumps(request).encode() + b"\n")
                if line:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise CiliumpyError(f"the pod's processes cannot be started: {answer['error']}")
                    return int(answer["pid"])
        raise CiliumpyError("the pod's processes cannot be started: their parent has ended twice")

    def _ask(self, line: bytes) -> bytes:
        process = self._process
        if process is None or process.poll() is not None:
            command = [sys.executable, "-P", "-m", "ciliumpy.lab.zygote"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
            self._process = process
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(line)
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            process.wait()
            return b""

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


class Sandbox:
    """One pod on one node, named by its container ID. Every step is undone by `stop`, whichever were done."""

    def __init__(self, place: Place, node: str, container_id: str) -> None:
        self._place = place
        self._node = node
        self._id = container_id
        self.cgroup = pod_cgroup(place, node, container_id)
        self._netns = place.netns(f"pod-{container_id}")
        self._folder = place.pods / container_id

    def start(self, pod: PodSpec, zygote: Zygote, hidden: list[str]) -> tuple[int, list[str]]:
        """Return (PID of the first process, addresses)."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(netns.new_namespace(self._netns))
        cgroups.make(self.cgroup)
        result = self._cni("ADD", pod.namespace, pod.name, pod.uid)
        addresses = [str(ip["address"]).partition("/")[0] for ip in result.get("ips", [])]
        containers = [
            {
                "name": c.name,
                "command": list(c.command),
                "env": c.environment,
                "workingDir": c.directory,
                "ports": [{"protocol": protocol, "port": port} for protocol, port in c.ports],
            }
            for c in pod.containers
        ]
        request = {
            "cgroup": str(self.cgroup),
            "netns": str(self._netns),
            "log": str(log_file(self._place, self._id)),
            "state": str(state_file(self._place, self._id)),
            "hosts": str(self._place.hosts / pod.namespace),
            "hostname": pod.hostname,
            "hidden": hidden,
            "restart": pod.restart,
            "containers": containers,
        }
        return zygote.start(request), addresses

    def stop(self, namespace: str, name: str, uid: str) -> None:
        """End the processes, unplug the pod, remove what is left. Nothing there is no error."""
        cgroups.kill(self.cgroup)
        self._cni("DEL", namespace, name, uid)
        netns.remove_namespace(self._netns)
        cgroups.remove(self.cgroup)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cni(self, command: str, namespace: str, name: str, uid: str) -> dict[str, Any]:
        """Execute the plugin as a runtime does. CiliumpyError with its own words where it fails."""
        config = {
            "cniVersion": _CNI_VERSION,
            "name": self._place.name,
            "type": "ciliumpy-cni",
            "agentSocket": str(self._place.node(self._node) / "cni.sock"),
        }
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CNI_")},
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self._id,
            "CNI_NETNS": str(self._netns),
            "CNI_IFNAME": _INTERFACE,
            "CNI_PATH": str(self._place.run),
            "CNI_ARGS": ";".join(
                ("IgnoreUnknown=1", f"K8S_POD_NAMESPACE={namespace}", f"K8S_POD_NAME={name}", f"K8S_POD_UID={uid}")
            ),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_PLUGIN)],
                input=json.dumps(config).encode(),
                env=environment,
                cwd="/",
                capture_output=True,
                timeout=_CNI_TIMEOUT_S,
                check=False,
            )
            answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            raise CiliumpyError(f"the CNI plugin failed: {error}") from error
        if done.returncode != 0:
            said = answer.get("msg") or done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            details = f" ({answer['details']})" if answer.get("details") else ""
            raise CiliumpyError(f"CNI {command}: {said}{details}")
        return answer


def pod_cgroup(place: Place, node: str, container_id: str) -> Path:
    return place.cgroup / node / "pods" / container_id


def log_file(place: Place, container_id: str) -> Path:
    return place.pods / container_id / "log"


def state_file(place: Place, container_id: str) -> Path:
    """Where the pod's first process writes how its containers are (`lab.containers`)."""
    return place.pods / container_id / "state"
