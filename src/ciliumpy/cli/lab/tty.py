# SPDX-License-Identifier: Apache-2.0
"""The flag -t, and what it comes to where there is no terminal."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ciliumpy.cli.lab.say import say

Tty = Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal of its own, as a shell wants.")]


def wants_terminal() -> bool:
    """Return whether standard input is a terminal that can be connected; say so if not, and go on without."""
    if os.isatty(0):
        return True
    say("standard input is no terminal: -t has no effect")
    return False
