# SPDX-License-Identifier: Apache-2.0
"""`lab up` and `lab down`: everything a lab is made of, made in order and removed in any state."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import agents, cgroups, machine, place, process, spec
from ciliumpy.net import libc, netns
from ciliumpy.store.directory.store import create_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ciliumpy.lab.place import Place
    from ciliumpy.lab.spec import LabSpec

_STOP_S = 5.0


def asked(file: Path | None, name: str | None) -> LabSpec:
    """Return the lab that is meant: the file's; without one, that which is there by that name, else the default.

    CiliumpyError (2) names what cannot be made of it, the agents' settings included.
    """
    machine.need_root()
    if file is None and (present := place.Place.of(name or place.DEFAULT_NAME).file).exists():
        return spec.read(present)
    lab = spec.load(file, name)
    if bad := agents.check(place.Place.of(lab.name), lab):
        where = f"{file}:{spec.line_of(file, ('agent', *bad.path))}" if file else "the lab"
        raise CiliumpyError(f"{where}: agent: {bad.message}", bad.hint or None, 2)
    return lab


def up(lab: LabSpec, say: Callable[[str], None]) -> Place:
    """Make the lab, or what of it is missing. CiliumpyError if another one of that name is being made, or is different.

    An interruption leaves what there is: the next `up` goes on, `down` removes it.
    """
    from ciliumpy.lab import wire  # not above: it loads pyroute2, for which `lab status` need not wait

    machine.need_root()
    where = place.Place.of(lab.name)
    with place.lock(lab.name, f"ciliumpy lab up {lab.name}"):
        if where.file.exists():
            _check_same(where, lab)
        machine.ensure_bpffs()
        where.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        where.pods.mkdir(mode=0o700, exist_ok=True)
        where.hosts.mkdir(mode=0o755, exist_ok=True)
        cgroups.make(where.cgroup)
        create_store(where.store, lab.name)
        spec.save(where.file, lab)
        wire.build(where, lab)
        names = [n.name for n in lab.nodes]
        say(f"nodes {', '.join(names)}: networks are there")
        _start_world(where)
        agents.start(where, lab, names, say)
        _start_controller(where, say)
    return where


def _check_same(where: Place, lab: LabSpec) -> None:
    present = spec.read(where.file)
    if present != lab:
        raise CiliumpyError(
            f"lab {lab.name!r} is there already and is made differently",
            f"`ciliumpy lab down {lab.name}` first, or give the new one another name",
        )


def _start_world(where: Place) -> None:
    from ciliumpy.lab import wire

    group = where.cgroup / "world"
    if cgroups.pids(group):
        return
    namespace = netns.open_path(where.netns(wire.WORLD))
    try:
        process.start("ciliumpy.lab.world", [], group=group, log=where.run / "world.log", netns=namespace)
    finally:
        os.close(namespace)


def _start_controller(where: Place, say: Callable[[str], None]) -> None:
    group = where.cgroup / "controller"
    if controller_pid(where):
        return
    cgroups.kill(group)
    log = where.run / "controller.log"
    pid = process.start("ciliumpy.lab.controller", [where.name], group=group, log=log)
    (where.run / "controller.pid").write_text(f"{pid}\n")
    say(f"controller: started (pid {pid})")


def controller_pid(where: Place) -> int:
    """Return the controller's PID, 0 if it does not run."""
    try:
        pid = int((where.run / "controller.pid").read_text())
    except (OSError, ValueError):
        return 0
    return pid if pid in cgroups.pids(where.cgroup / "controller") else 0


def start(where: Place, nodes: Sequence[str], say: Callable[[str], None]) -> None:
    """Start the agents, or these nodes', and the controller if it does not run."""
    lab = spec.read(where.file)
    with place.lock(where.name, "ciliumpy lab start"):
        names = nodes_of(lab, nodes)
        for name in names:
            if pids := cgroups.pids(agents.group(where, name)):
                say(f"agent {name}: runs already (pid {pids[0]})")
        agents.start(where, lab, names, say)
        _start_controller(where, say)


def stop(where: Place, nodes: Sequence[str], say: Callable[[str], None]) -> None:
    """Stop the agents, or these nodes'. The pods run on."""
    lab = spec.read(where.file)
    with place.lock(where.name, "ciliumpy lab stop"):
        agents.stop(where, nodes_of(lab, nodes), say)


def nodes_of(lab: LabSpec, nodes: Sequence[str]) -> list[str]:
    """Return these nodes, or all if none is named."""
    names = [n.name for n in lab.nodes]
    if unknown := [node for node in nodes if node not in names]:
        raise CiliumpyError(
            f"lab {lab.name!r} has no node {unknown[0]!r} (nodes: {', '.join(names)})", "--lab NAME names a lab", 2
        )
    return list(dict.fromkeys(nodes)) or names


def down(name: str, say: Callable[[str], None]) -> bool:
    """Remove everything of the lab, whatever state it is in; return False if there was nothing."""
    machine.need_root()
    where = place.Place.of(name)
    with place.lock(name, f"ciliumpy lab down {name}"):  # in any case: it takes along one that was left behind
        if not (where.run.exists() or where.bpffs.exists() or where.cgroup.exists()):
            return False
        _end_processes(where)
        say("processes: ended")
        _remove_namespaces(where)
        say("namespaces: removed")
        if where.bpffs.exists():
            _remove_pins(where.bpffs)
        cgroups.remove(where.cgroup)
        shutil.rmtree(where.run, ignore_errors=True)
        _remove_if_empty(where.bpffs.parent, where.bpffs.parent.parent, where.cgroup.parent, where.cgroup.parent.parent)
        if where.run.exists():
            raise CiliumpyError(f"{where.run} cannot be removed", "look at what is mounted or open there")
    return True


def _end_processes(where: Place) -> None:
    """First the controller, or it would start anew what ends; then everything at once."""
    pid = controller_pid(where)
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while controller_pid(where) and time.monotonic() < deadline:
            time.sleep(0.01)
    cgroups.kill(where.cgroup)


def _remove_namespaces(where: Place) -> None:
    folder = where.netns("")
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        netns.remove_namespace(path)
    while any(m.point == str(folder) for m in machine.mounts()):
        libc.umount(str(folder), libc.MNT_DETACH)


def _remove_pins(folder: Path) -> None:
    """Unpin everything below; shutil.rmtree would do, but for the order: links before maps."""
    for path in sorted(folder.rglob("*"), key=lambda p: ("links" not in p.parts, p)):
        if not path.is_dir():
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
