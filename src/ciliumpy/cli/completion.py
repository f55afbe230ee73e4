# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy completion`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.kit.errors import CiliumpyError

Shell = Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")]


def run(shell: Shell) -> None:
    """Print the completion script of a shell.

    For bash: `source <(ciliumpy completion bash)`. For zsh: put it as `_ciliumpy` into a folder of `$fpath`. For fish:
    `ciliumpy completion fish | source`. Commands and flags stand in the script; names of labs, nodes, endpoints, pods,
    maps and the like are asked for when they are wanted, in a tenth of a second, or left out.
    """
    from ciliumpy.cli.completions import SCRIPTS

    if shell not in SCRIPTS:
        raise CiliumpyError(f"there is no completion for {shell!r}", f"there is one for {', '.join(SCRIPTS)}", 2)
    typer.echo(SCRIPTS[shell](), nl=False)
