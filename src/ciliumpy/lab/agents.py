# SPDX-License-Identifier: Apache-2.0
"""The agents of a lab's nodes: their configuration, starting, stopping, and waiting until they answer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import cgroups, process
from ciliumpy.model.documents import dump
from ciliumpy.net import netns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ciliumpy.lab.place import Place
    from ciliumpy.lab.spec import LabSpec

_READY_S = 30.0
_STOP_S = 10.0
_POLL_S = 0.02


class AgentState(NamedTuple):
    """`state` is stopped, starting, or what the agent says of itself: ok, degraded."""

    node: str
    state: str
    pid: int
    problems: tuple[str, ...] = ()


def group(place: Place, node: str) -> Path:
    return place.cgroup / node / "agent"


def log(place: Place, node: str) -> Path:
    return place.node(node) / "agent.log"


def configure(place: Place, lab: LabSpec, node: str) -> Path:
    """Write the agent's configuration and return its path."""
    folder = place.node(node)
    for each in (folder, folder / "state", place.bpffs / node):
        each.mkdir(mode=0o700 if each.name == "state" else 0o755, parents=True, exist_ok=True)
    cgroups.make(place.cgroup / node)
    path = folder / "agent.yaml"
    path.write_bytes(dump(_merged(_own(place, lab, node), lab.agent)))
    return path


def _own(place: Place, lab: LabSpec, node: str) -> dict[str, Any]:
    """Return the settings that make an agent the one of this node."""
    folder = place.node(node)
    return {
        "node": {"name": node, "lab": place.name, "labels": lab.labels(node)},
        "store": {"path": str(place.store)},
        "paths": {
            "run": str(folder),
            "state": str(folder / "state"),
            "bpffs": str(place.bpffs / node),
            "cgroup": str(place.cgroup / node),
        },
        "network": {"device": "eth0", "underlay": lab.underlay},
        "ipam": {"clusterPodCIDRs": list(lab.pod_cidrs)},
    }


def _merged(own: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    more = {k: {**own.get(k, {}), **values} if isinstance(values, dict) else values for k, values in given.items()}
    return {**own, **more}


class BadSetting(NamedTuple):
    """What is wrong with `agent` of a lab. `path` is its place there, as far as that is known."""

    path: tuple[str, ...]
    message: str
    hint: str


def check(place: Place, lab: LabSpec) -> BadSetting | None:
    """Have the agent itself look at its configuration, before anything of the lab is made."""
    if not lab.agent:
        return None
    node = lab.nodes[0].name
    own = _own(place, lab, node)
    given = [(part, key) for part, keys in lab.agent.items() if isinstance(keys, dict) for key in keys]
    for part, key in given:
        if key in own.get(part, {}):
            hint = "podCIDRs of the lab are meant" if part == "ipam" else "leave it out"
            return BadSetting((part, key), f"{part}.{key} is set by the lab itself", hint)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.yaml"
        path.write_bytes(dump(_merged(own, lab.agent)))
        command = [sys.executable, "-P", "-m", "ciliumpy.daemon", "--config", str(path), "--check"]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    message, _, hint = done.stderr.strip().partition("\nhint: ")
    message = re.sub(rf"^error: (file {re.escape(str(path))}(:\d+)?: )?", "", message)
    at = next((pair for pair in given if ".".join(pair) in message), None)
    return BadSetting(at or tuple(part for part in lab.agent if part in message)[:1], message, hint)


def state_of(place: Place, node: str, *, timeout_s: float = 5.0) -> AgentState:
    """Return how the agent is: asked itself, if it runs."""
    alive = cgroups.pids(group(place, node))
    if not alive:
        return AgentState(node, "stopped", 0)
    announced = next(t for t in target.targets(place.name) if t.node == node)
    pid = announced.pid if announced.pid in alive else alive[0]
    if not announced.running or announced.pid not in alive:
        return AgentState(node, "starting", pid)
    try:
        said = AdminClient.of(announced, timeout_s=timeout_s).get("/v1/status")
    except CiliumpyError as error:
        return AgentState(node, "degraded", pid, (error.message,))
    problems = tuple(_in_words(p) for p in said.get("problems", ()) if p.get("severity") != "notice")
    return AgentState(node, str(said.get("state", "degraded")), pid, problems)


def _in_words(problem: dict[str, Any]) -> str:
    place = f"{problem['origin']}:{problem['line']}" if problem["line"] else problem["origin"]
    where = " ".join(part for part in (place, problem["object"], problem["field"]) if part)
    return f"{where}: {problem['message']}"


def start(place: Place, lab: LabSpec, nodes: Sequence[str], say: Callable[[str], None]) -> None:
    """Start the agents of `nodes` that do not run, all at once, and wait until they are ready."""
    started = {}
    for node in nodes:
        if cgroups.pids(group(place, node)):
            continue
        config = configure(place, lab, node)
        namespace = netns.open_path(place.netns(node))
        try:
            started[node] = process.start(
                "ciliumpy.daemon",
                ["--config", str(config)],
                group=group(place, node),
                log=log(place, node),
                netns=namespace,
            )
        finally:
            os.close(namespace)
        say(f"agent {node}: started (pid {started[node]})")
    wait_ready(place, nodes, say if started else lambda _: None)


def wait_ready(place: Place, nodes: Sequence[str], say: Callable[[str], None]) -> None:
    """Return when every agent says `ok` or `degraded`; CiliumpyError with its log's end if one does not within 30 s."""
    begin = time.monotonic()
    waiting = list(nodes)
    while waiting:
        for node in list(waiting):
            now = state_of(place, node)
            if now.state == "stopped":
                raise CiliumpyError(
                    f"the agent of node {node} has ended:\n{process.tail(log(place, node))}",
                    f"the whole log: {log(place, node)}",
                )
            if now.state != "starting":
                waiting.remove(node)
                say(f"agent {node}: {now.state} after {time.monotonic() - begin:.1f} s")
        if waiting and time.monotonic() - begin > _READY_S:
            names = ", ".join(waiting)
            raise CiliumpyError(
                f"not ready within {_READY_S:g} s: {names}\n{process.tail(log(place, waiting[0]))}",
                f"the whole log: {log(place, waiting[0])}",
            )
        if waiting:
            time.sleep(_POLL_S)


def stop(place: Place, nodes: Sequence[str], say: Callable[[str], None]) -> None:
    """Ask the agents to end, all at once; kill what has not ended after 10 s. The pods run on."""
    alive = {node: state_of(place, node, timeout_s=0.5) for node in nodes if cgroups.pids(group(place, node))}
    for node in nodes:
        if node not in alive:
            say(f"agent {node}: does not run")
    for state in alive.values():
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    for node in alive:
        while cgroups.populated(group(place, node)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        late = cgroups.populated(group(place, node))
        cgroups.kill(group(place, node))
        (place.node(node) / "agent.json").unlink(missing_ok=True)
        say(f"agent {node}: {'killed' if late else 'stopped'}")
