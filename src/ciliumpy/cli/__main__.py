# SPDX-License-Identifier: Apache-2.0
"""Runs one command. Errors are printed here and nowhere else, once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ciliumpy.cli.terminal import hint_text, printable
from ciliumpy.kit.errors import CiliumpyError

INTERRUPTED = 130  # as shells report a process that SIGINT ended
PIPE_CLOSED = 141  # and SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: this process's) and return the exit code."""
    _open_closed_streams()
    args = list(sys.argv[1:] if arguments is None else arguments)
    if args[:1] == ["__complete"]:  # at every TAB: before anything else is loaded
        from ciliumpy.cli.names import complete

        return complete(args[1:])
    if args == ["--version"]:
        args = ["version"]
    try:
        code = run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_output()  # the reader has gone (`| head`)
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # a full disk, a terminal that is gone: no defect of this program
        _give_up_output()
        where = f"{error.filename}: " if error.filename else ""
        return report(f"{where}{error.strerror or error}", None, 1)
    return code


def _open_closed_streams() -> None:
    """What was closed by who started us (`>&-`) is written to nowhere, as by other commands."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for the life of the process


def _give_up_output() -> None:
    """What is still buffered must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: list[str]) -> int:
    import typer

    from ciliumpy.cli.app import in_order, root

    try:
        group = root()
        with group.make_context("ciliumpy", in_order(args)) as ctx:
            group.invoke(ctx)
    except typer.Exit as exit_:
        return exit_.exit_code
    except CiliumpyError as error:
        return report(error.message, error.hint, error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "ciliumpy"
        return report(error.format_message(), f"`{path} --help` lists what it takes", error.exit_code)
    except KeyError as error:
        other = other_version()
        if not other:
            raise
        return report(
            f"the agent's answer has no {error}", f"the agent is version {other}; restart it with this one", 1
        )
    except PermissionError as error:
        return report(f"no permission for {error.filename or 'this'}", "run it as root (sudo)", 1)
    return 0


def other_version() -> str:
    """Return the version of an agent of this machine that is not this command's, if there is one."""
    from ciliumpy import __version__
    from ciliumpy.client import target

    found = {each.version for place in target.known() for each in target.targets(place) if each.running}
    return next(iter(sorted(found - {__version__, ""})), "")


def report(message: str, hint: str | None, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(printable(f"Error: {message}\n") + (hint_text(hint) if hint else ""))
    return code


if __name__ == "__main__":
    sys.exit(main())
