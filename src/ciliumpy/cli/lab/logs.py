# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab logs`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from ciliumpy.cli.options import Lab
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from pathlib import Path

    from ciliumpy.lab.place import Place

What = Annotated[
    str,
    typer.Argument(
        metavar="NODE|[NAMESPACE/]POD", help="A node: its agent's log; a pod, or a Deployment: its first running pod."
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")]
Tail = Annotated[
    int | None, typer.Option("--tail", metavar="LINES", min=0, help="Only the last lines of what is there.")
]
_CHUNK = 65536


def run(what: What, follow: Follow = False, tail: Tail = None, lab: Lab = None) -> None:
    """Print the log of a node's agent, or what a pod's containers wrote, at most the last 1 MiB.

    A name without a namespace that a node has means the node. `controller` and `world` have logs too.
    """
    from ciliumpy.lab import machine, place

    machine.need_root()
    path = _log(place.only_lab(lab), what)
    try:
        with path.open("rb") as file:
            if tail is not None:
                file.seek(_start_of_last(file, tail))
            while True:
                if part := file.read(_CHUNK):
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
                elif not follow or not path.exists():
                    return
                else:
                    if path.stat().st_size < file.tell():
                        file.seek(0)
                    time.sleep(0.1)
    except FileNotFoundError as error:
        raise CiliumpyError(f"{what} has no log", "see `ciliumpy lab status`") from error


def _log(lab: Place, what: str) -> Path:
    from ciliumpy.lab import agents, records, runtime, spec

    if what in ("controller", "world"):
        return lab.run / f"{what}.log"
    nodes = [node.name for node in spec.read(lab.file).nodes]
    if what in nodes:
        return agents.log(lab, what)
    try:
        return runtime.log_file(lab, records.find(lab, what).container_id)
    except CiliumpyError as error:
        if "/" in what or "there is no pod" not in error.message:
            raise
        raise CiliumpyError(
            f"{error.message}, and no node of that name ({', '.join(nodes)})", error.hint, error.exit_code
        ) from error


def _start_of_last(file: BinaryIO, lines: int) -> int:
    """Return where the last `lines` lines of the file begin."""
    end = file.seek(0, 2)
    kept = b""
    at = end
    while at and kept.count(b"\n", 0, -1 if kept.endswith(b"\n") else None) < lines:
        begin = max(0, at - _CHUNK)
        file.seek(begin)
        kept = file.read(at - begin) + kept
        at = begin
    last = kept.splitlines(keepends=True)[-lines:] if lines else []
    return end - sum(map(len, last))
