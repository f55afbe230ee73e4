# SPDX-License-Identifier: Apache-2.0
"""Which lab: every verb takes `--lab NAME`; those that make and remove one take the name itself too."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.kit.errors import CiliumpyError

Same = Annotated[str | None, typer.Option("--lab", metavar="NAME", help="The same as the argument NAME.")]


def agreed(name: str | None, lab: str | None) -> str | None:
    """Return the name that was said in either way. CiliumpyError (2) if both were, differently."""
    if name is not None and lab is not None and name != lab:
        raise CiliumpyError(f"two labs are named: {name} and --lab {lab}", "say one", 2)
    return lab if name is None else name
