# SPDX-License-Identifier: Apache-2.0
"""A container runtime's part of CNI, as libcni plays it: lists of plugins, results handed on, DEL from the end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ciliumpy.cni import install

if TYPE_CHECKING:
    from .agent_node import AgentNode, Pod

REFERENCE_PLUGINS = Path("/usr/lib/cni")  # where Debian's containernetworking-plugins are


def need(*plugins: str) -> None:
    """Skip the test where a reference plugin is not installed, and name it."""
    missing = [name for name in plugins if not (REFERENCE_PLUGINS / name).exists()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian's containernetworking-plugins)")


class PluginError(Exception):
    """What a plugin answered instead of a result."""

    def __init__(self, plugin: str, answer: dict[str, Any]) -> None:
        super().__init__(f"{plugin}: {answer}")
        self.code = answer.get("code")
        self.details = str(answer.get("details", ""))


class Network:
    """A configuration list on a node, and the results of the attachments made by it."""

    def __init__(self, node: AgentNode, plugins: list[dict[str, Any]], *, version: str = "1.0.0", name: str = "net"):
        self.version, self.name = version, name
        self._place = node.place.path
        own = node.folder / "cni-bin"
        if not own.exists():
            install.install(str(own))
        self._path = f"{own}:{REFERENCE_PLUGINS}"
        socket = str(node.run / "cni.sock")
        self._plugins = [p | ({"agentSocket": socket} if p["type"] == "ciliumpy-cni" else {}) for p in plugins]
        self._results: dict[tuple[str, str], Any] = {}

    def add(self, pod: Pod, *, ifname: str = "eth0", **capabilities: Any) -> dict[str, Any]:
        result: Any = None
        for plugin in self._plugins:
            result = self._call("ADD", plugin, result, pod, ifname, capabilities)
        self._results[pod.container, ifname] = result
        pod.result = result
        return dict(result)

    def check(self, pod: Pod, *, ifname: str = "eth0", **capabilities: Any) -> None:
        for plugin in self._plugins:
            self._call("CHECK", plugin, self._results[pod.container, ifname], pod, ifname, capabilities)

    def delete(self, pod: Pod, *, ifname: str = "eth0", **capabilities: Any) -> None:
        previous = self._results.pop((pod.container, ifname), None)
        for plugin in reversed(self._plugins):
            self._call("DEL", plugin, previous, pod, ifname, capabilities)

    def collect(self, keep: list[tuple[str, str]]) -> None:
        attachments = [{"containerID": container, "ifname": ifname} for container, ifname in keep]
        for plugin in self._plugins:
            more = {"cni.dev/valid-attachments": attachments, "cni.dev/attachments": attachments}
            self._call("GC", plugin | more, None)

    def status(self) -> None:
        for plugin in self._plugins:
            self._call("STATUS", plugin, None)

    def _call(
        self,
        command: str,
        plugin: dict[str, Any],
        previous: Any,
        pod: Pod | None = None,
        ifname: str = "",
        given: dict[str, Any] | None = None,
    ) -> Any:
        config = plugin | {"cniVersion": self.version, "name": self.name}
        if previous is not None:
            config["prevResult"] = previous
        wanted = [key for key, on in plugin.get("capabilities", {}).items() if on]
        if runtime := {key: (given or {})[key] for key in wanted if key in (given or {})}:
            config["runtimeConfig"] = runtime
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": self._path}
        if pod is not None:
            environment |= {
                "CNI_CONTAINERID": pod.container,
                "CNI_IFNAME": ifname,
                "CNI_NETNS": str(pod.path),
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name}",
            }
        found = next(p for f in self._path.split(":") if (p := Path(f) / plugin["type"]).exists())
        done = subprocess.run(
            ["nsenter", f"--net={self._place}", str(found)],
            input=json.dumps(config).encode(),
            env=environment,
            capture_output=True,
            check=False,
            timeout=30,
        )
        answer = json.loads(done.stdout) if done.stdout else None
        if done.returncode:
            raise PluginError(plugin["type"], answer or {"msg": done.stderr.decode()})
        return answer
