# SPDX-License-Identifier: Apache-2.0
"""Runs the demo and tells what it does, in 80 columns. Everything it shows comes from commands that can be repeated."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import lifecycle, machine, objects, records, status
from ciliumpy.lab.spec import LabSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.lab.place import Place

NAME = "demo"
_APPS = Path(__file__).with_name("apps.yaml")
_POLICY = Path(__file__).with_name("policy.yaml")
_WIDTH = 80
_SETTLE_S = 60.0
_ENFORCE_S = 10.0
_POLL_S = 0.05

_INTRODUCTION = """\
This starts a cluster of two nodes in namespaces of this machine, lets five pods
talk, applies a policy, and shows what it cut. It takes about 20 seconds and
leaves the lab running."""


class Call(NamedTuple):
    """A pod calls another over HTTP."""

    source: str
    host: str
    port: int
    allowed: bool  # by the policy

    @property
    def command(self) -> list[str]:
        return ["curl", "-sS", "--max-time", "1", f"http://{self.host}:{self.port}/"]


_CALLS = (
    Call("shop/frontend", "api", 8080, allowed=True),
    Call("guest/visitor", "api.shop", 8080, allowed=False),
    Call("shop/api", "db", 5432, allowed=True),
    Call("guest/visitor", "db.shop", 5432, allowed=False),
)


def tour() -> None:
    """Run it. CiliumpyError where something does not come out as the policy says."""
    machine.need_root()
    if shutil.which("curl") is None:
        raise CiliumpyError("the demo's pods call each other with curl, which is not installed", "apt install curl")
    _say(_INTRODUCTION)
    _title("The lab: nodes n1 and n2, and a wire between them")
    place = lifecycle.up(LabSpec(name=NAME), _say)
    manifests = objects.read(str(_POLICY))
    objects.delete(place, [m.key for m in manifests])  # of an earlier run
    _title("The pods: a shop (frontend, two api, db) and a guest (visitor)")
    objects.apply(place, objects.read(str(_APPS)))
    status.wait_settled(place, _SETTLE_S)
    _await_enforced(enforced=False)
    _show("lab", "status")
    _title("Before the policy: everybody reaches everybody")
    _talk(place, cut=False)
    _title("The policy: only frontend -> api on TCP 8080, only api -> db")
    _show("lab", "apply", "-f", str(_POLICY))
    _await_enforced(enforced=True)
    _show("policy", "list")
    _title("After the policy: the visitor is cut off")
    _talk(place, cut=True)
    _title("How the agents are")
    _show("status")
    _title("Who talked to whom: the last verdicts of both nodes, merged by time")
    _show("observe", "--namespace", "shop", "--type", "policy-verdict", "--last", "8")
    _title("The visitor's dropped packets, with the reason")
    _show("observe", "--from-pod", "guest/visitor", "--type", "drop", "--last", "1", "-o", "dict")
    _title("The kernel's maps behind it, on node n1")
    _show("bpf", "map", "list", "--node", "n1")
    _title("Five things to try (the lab runs on)")
    _suggest()


def _talk(place: Place, *, cut: bool) -> None:
    """Make all calls and print how each went."""
    wrong = []
    for call in _CALLS:
        pod = records.find(place, call.source)
        command = [*_command(), "lab", "exec", f"{pod.namespace}/{pod.name}", *_lab(), "--", *call.command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reached = done.returncode == 0
        said = f"answered by {done.stdout.strip()}" if reached else f"no answer ({_reason(done.stderr)})"
        mark = "ok " if reached else "CUT"
        _say(f"  {mark}  {call.source:<14} -> {f'{call.host}:{call.port}':<14} {said}")
        if reached == (cut and not call.allowed):
            wrong.append(f"{call.source} -> {call.host}:{call.port}")
    if wrong:
        raise CiliumpyError(
            f"not as the policy says: {', '.join(wrong)}", f"`ciliumpy observe --lab {NAME}` shows the flows"
        )


def _reason(stderr: str) -> str:
    return "timed out after 1 s" if "(28)" in stderr else stderr.strip() or "failed"


def _await_enforced(*, enforced: bool) -> None:
    """Wait until the datapath of each node enforces ingress on its api and db pods, or no longer does."""
    goal = "enabled" if enforced else "disabled"
    deadline = time.monotonic() + _ENFORCE_S
    while late := [t.node for t in target.targets(NAME) if not _enforces(AdminClient.of(t), goal)]:
        if time.monotonic() > deadline:
            raise CiliumpyError(
                f"the policy is not in force on {', '.join(late)} within {_ENFORCE_S:g} s",
                f"`ciliumpy status --verbose --lab {NAME}` tells why",
            )
        time.sleep(_POLL_S)


def _enforces(client: AdminClient, goal: str) -> bool:
    for endpoint in client.get("/v1/endpoints")["items"]:
        if endpoint["namespace"] == "shop" and endpoint["pod"].startswith(("api-", "db-")):
            detail = client.get(f"/v1/endpoints/{endpoint['id']}")
            if detail["policy"]["ingress"] != goal or detail["datapath"]["state"] != "done":
                return False
    return True


def _show(*arguments: str) -> None:
    """Run one of our own commands and print it with its output, folded to the width."""
    spoken = ["ciliumpy", *(_relative(a) for a in arguments), *_lab()]
    _say(wrapped("$ ", spoken))
    done = subprocess.run([*_command(), *arguments, *_lab()], capture_output=True, text=True, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        _say(line if len(line) <= _WIDTH else _folded(line))
    if done.returncode != 0:
        raise CiliumpyError(f"`{' '.join(spoken)}` failed", f"the logs: /run/ciliumpy/labs/{NAME}/*/agent.log")


def wrapped(before: str, words: Sequence[str]) -> str:
    """Return a command as it can be pasted: lines within the width, each but the last with a backslash."""
    lines = [before + words[0]]
    for word in words[1:]:
        if len(f"{lines[-1]} {word} \\") > _WIDTH:
            lines[-1] += " \\"
            lines.append(f"{' ' * len(before)}    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


def _folded(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)


def _relative(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else argument


def _command() -> list[str]:
    return [sys.executable, "-P", "-m", "ciliumpy.cli"]


def _lab() -> Sequence[str]:
    return () if target.known() == [NAME] and target.preferred() in (None, NAME) else ("--lab", NAME)


def _suggest() -> None:
    program = "ciliumpy" if shutil.which("ciliumpy") else _relative(str(Path(sys.executable).with_name("ciliumpy")))
    lab = " ".join(["", *_lab()])
    for what, command in (
        ("Watch flows live, while you try the rest", f"observe --follow{lab}"),
        ("Be the visitor", f"lab exec guest/visitor{lab} -- curl -m1 api.shop:8080"),
        ("Lift the policy, and try again", f"lab delete cnp api -n shop{lab}"),
        ("See each rule as the datapath has it", f"bpf policy list --node n1{lab}"),
        ("Stop an agent: traffic and policy stay", f"lab stop n1{lab}"),
    ):
        _say(f"  {what}:\n{wrapped('      ', [program, *command.split()])}")
    _say(f"\nThe end of it all: {program} lab down {NAME}")


def _title(text: str) -> None:
    _say(f"\n== {text}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
