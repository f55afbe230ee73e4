# SPDX-License-Identifier: Apache-2.0
"""Which agent is meant: the host's, or those of a lab.

An agent writes `agent.json` into its run directory while its sockets listen; a lab's nodes stand in its `lab.json`, so
a node is known even when its agent is down. `CILIUMPY_RUN_DIR` moves the whole tree (default /run/ciliumpy);
`CILIUMPY_LAB` names the lab that is meant where a command names none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from ciliumpy.kit.errors import CiliumpyError

RUN_DIR = "/run/ciliumpy"
BPFFS_DIR = Path("/sys/fs/bpf/ciliumpy")


class Target(NamedTuple):
    """An agent that a command may ask. `running` says that it has announced itself, not that it answers."""

    node: str
    lab: str  # empty: the host's agent
    run_dir: Path
    running: bool
    admin_socket: Path
    hubble_socket: Path
    bpffs: Path  # its maps are below maps/
    version: str = ""
    pid: int = 0


def run_dir() -> Path:
    """Return the directory below which all agents of this machine have their run directories."""
    return Path(os.environ.get("CILIUMPY_RUN_DIR") or RUN_DIR)


def known() -> list[str]:
    """Return what there is to ask: "" for the host's agent, then the labs by name."""
    host = [""] if (run_dir() / "agent.json").exists() else []
    return host + labs()


def labs() -> list[str]:
    """Return the names of the labs on this machine, sorted."""
    return sorted(path.parent.name for path in run_dir().glob("labs/*/lab.json"))


def preferred() -> str | None:
    """Return the lab that `CILIUMPY_LAB` names, for commands that name none; None if it is not set."""
    return os.environ.get("CILIUMPY_LAB") or None


def no_lab(name: str) -> CiliumpyError:
    """Return the error of a lab that is not there, which says so if the environment named it."""
    hint = "`ciliumpy lab up` starts one"
    if name == preferred():
        hint = f"CILIUMPY_LAB={name}: unset it, or start that lab with `ciliumpy lab up {name}`"
    return CiliumpyError(f"there is no lab {name!r} (labs: {', '.join(labs()) or 'none'})", hint, 2)


def several(names: list[str]) -> CiliumpyError:
    """Return the error of a command that does not say which of these labs it means."""
    return CiliumpyError(
        f"there are several labs: {', '.join(names)}", "say which: --lab NAME, or export CILIUMPY_LAB=NAME", 2
    )


def select(lab: str | None = None, node: str | None = None, *, direct: bool = False) -> list[Target]:
    """Return the agents to ask, sorted by node; never an empty list.

    With nothing said: the lab of `CILIUMPY_LAB`, else the host's agent if there is one, else all nodes of the only
    lab. `direct` is for those who read pinned maps: what a stopped agent has left on the host counts too. Raises
    CiliumpyError (exit code 2) when that is ambiguous or names something unknown, (1) when nothing runs.
    """
    places = known()
    if direct and not places and (BPFFS_DIR / "maps").is_dir():
        places = [""]
    lab = preferred() if lab is None else lab
    if lab is not None:
        if lab not in labs():
            raise no_lab(lab)
        places = [lab]
    elif not places:
        raise CiliumpyError("no agent runs on this machine", "start a lab with `ciliumpy lab up`", 1)
    if node is not None:
        return [_pick(places, node)]
    if places[0] and len(places) > 1:
        raise several(places)
    found = targets(places[0])
    if not found:
        raise CiliumpyError(f"lab {places[0]!r} has no nodes", "`ciliumpy lab status` shows it", 1)
    return found


def select_one(lab: str | None = None, node: str | None = None) -> Target:
    """Return the one agent that is meant; CiliumpyError if several could be."""
    found = select(lab, node)
    if len(found) > 1:
        names = ", ".join(each.node for each in found)
        hint = f"say which: --node {found[0].node}"
        raise CiliumpyError(f"this asks one node, and there are several: {names}", hint, 2)
    return found[0]


def targets(place: str) -> list[Target]:
    """Return the agents of a lab, or the host's for "", sorted by node."""
    if not place:
        return [_target("", os.uname().nodename, run_dir(), BPFFS_DIR)]
    folder = run_dir() / "labs" / place
    nodes = (_read(folder / "lab.json") or {}).get("nodes", [])
    names = sorted(entry["name"] if isinstance(entry, dict) else str(entry) for entry in nodes)
    return [_target(place, name, folder / name, BPFFS_DIR / "labs" / place / name) for name in names]


def _pick(places: list[str], node: str) -> Target:
    everywhere = [each for place in places for each in targets(place)]
    found = [each for each in everywhere if each.node == node]
    if len(found) == 1:
        return found[0]
    if found:
        where = ", ".join(f"lab {each.lab}" if each.lab else "the host" for each in found)
        raise CiliumpyError(f"there are several nodes {node!r}: in {where}", "say which: --lab NAME", 2)
    names = ", ".join(sorted({each.node for each in everywhere}))
    raise CiliumpyError(f"there is no node {node!r} (nodes: {names})", "`ciliumpy node list` shows them", 2)


def _target(lab: str, node: str, folder: Path, bpffs: Path) -> Target:
    said = _read(folder / "agent.json")
    spec = said or {}
    return Target(
        node=spec.get("node", node),
        lab=lab,
        run_dir=folder,
        running=said is not None,
        admin_socket=Path(spec.get("adminSocket", folder / "agent.sock")),
        hubble_socket=Path(spec.get("hubbleSocket", folder / "hubble.sock")),
        bpffs=Path(spec.get("bpffs", bpffs)),
        version=spec.get("version", ""),
        pid=spec.get("pid", 0),
    )


def _read(path: Path) -> dict[str, Any] | None:
    import json

    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CiliumpyError(f"{path} is no JSON: {error}", "remove it and restart what wrote it") from error
    if not isinstance(value, dict):
        raise CiliumpyError(f"{path} holds no object", "remove it and restart what wrote it")
    return value
