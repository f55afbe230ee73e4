# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ciliumpy.cli.lab.name import Same, agreed
from ciliumpy.cli.lab.say import say

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The name; else the file's, or $CILIUMPY_LAB, or `lab`.")
]
File = Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="What the lab is made of (lab.yaml).")]


def run(name: Name = None, file: File = None, lab: Same = None) -> None:
    """Start a lab cluster: two nodes, n1 and n2, or what the file says.

    What is there already is left as it is; what is missing, an agent that was stopped or killed too, is started.
    Without a file a lab that is there stays what it was made of.
    """
    from ciliumpy.client import target
    from ciliumpy.lab import lifecycle

    name = agreed(name, lab)
    made = lifecycle.asked(file, target.preferred() if name is None and file is None else name)
    lifecycle.up(made, say)
    say(f"lab {made.name} is up. Next: ciliumpy lab apply -f FILE, ciliumpy lab status, ciliumpy status")
