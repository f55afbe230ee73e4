# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy-cni` at a user's hand: what it is, and putting the plugin where a runtime looks for it."""

from __future__ import annotations

import os
import sys

from ciliumpy import __version__
from ciliumpy.cni import protocol

NAME = "ciliumpy-cni"
DEFAULT_FOLDER = "/opt/cni/bin"
_LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.py")
_LONGEST_FIRST_LINE = 127  # what every kernel takes after #!

_ABOUT = f"""\
{NAME} {__version__}: a CNI plugin, run by a container runtime.
CNI versions supported: {", ".join(protocol.VERSIONS)}
Put it where the runtime looks for plugins: {NAME} install [FOLDER]   (default {DEFAULT_FOLDER})
"""


def command() -> list[str]:
    """Return the command by which the plugin starts fastest: no `site`, no look at installed packages."""
    return [sys.executable, "-I", "-S", _LAUNCHER]


def main(arguments: list[str]) -> int:
    """Answer a user; return the exit status."""
    if not arguments:
        sys.stderr.write(_ABOUT)
        return 0
    if arguments[0] != "install" or len(arguments) > 2:
        sys.stderr.write(_ABOUT)
        return 2
    try:
        print(install(arguments[1] if len(arguments) > 1 else DEFAULT_FOLDER))  # noqa: T201 - the path, for scripts
    except OSError as error:
        sys.stderr.write(f"Error: cannot install the plugin: {error.strerror}: {error.filename}\n")
        return 1
    return 0


def install(folder: str) -> str:
    """Write the plugin, a script of one line, into `folder` by a rename; return its path. OSError."""
    os.makedirs(folder, mode=0o755, exist_ok=True)
    path = os.path.join(folder, NAME)
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
    try:
        os.write(fd, _script().encode())
        os.fchmod(fd, 0o755)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    return path


def _script() -> str:
    """Return the plugin as a file: the interpreter by its own line where that is short enough, else by a shell."""
    first = f"#!{sys.executable} -IS"
    if len(first) <= _LONGEST_FIRST_LINE and " " not in sys.executable:
        place = os.path.dirname(os.path.dirname(os.path.dirname(_LAUNCHER)))
        return (
            f"{first}\nimport sys\n\nsys.path.insert(0, {place!r})\n\n"
            "from ciliumpy.cni.__main__ import main\n\nmain()\n"
        )
    return '#!/bin/sh\nexec "{}" -I -S "{}" "$@"\n'.format(
        *(each.replace('"', '\\"') for each in (sys.executable, _LAUNCHER))
    )
