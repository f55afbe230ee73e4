# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy completion`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.kit.errors import CiliumpyError

Shell = Annotated[str, typer.Argument(metavar="bash|zsh", help="The shell.")]


def run(shell: Shell) -> None:
    """Print the completion script of a shell.

    For bash: `source <(ciliumpy completion bash)`. For zsh: put it as `_ciliumpy` into a folder of `$fpath`. The script
    is static: pressing TAB starts no process.
    """
    from ciliumpy.cli.completions import SCRIPTS

    if shell not in SCRIPTS:
        raise CiliumpyError(f"there is no completion for {shell!r}", f"there is one for {' and '.join(SCRIPTS)}", 2)
    typer.echo(SCRIPTS[shell](), nl=False)
