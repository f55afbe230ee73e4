# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab logs`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from ciliumpy.cli.options import Lab
from ciliumpy.kit.errors import CiliumpyError

Pod = Annotated[str, typer.Argument(metavar="[NAMESPACE/]POD", help="A pod, or a Deployment: its first running pod.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")]


def run(pod: Pod, follow: Follow = False, lab: Lab = None) -> None:
    """Print what a pod's containers wrote, at most the last 1 MiB."""
    from ciliumpy.lab import machine, place, records, runtime

    machine.need_root()
    where = place.only_lab(lab)
    record = records.find(where, pod)
    path = runtime.log_file(where, record.container_id)
    try:
        with path.open("rb") as file:
            while True:
                if part := file.read(65536):
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
                elif not follow or not path.exists():
                    return
                else:
                    if path.stat().st_size < file.tell():
                        file.seek(0)
                    time.sleep(0.1)
    except FileNotFoundError as error:
        raise CiliumpyError(f"{pod} has no log", "see `ciliumpy lab status`") from error
