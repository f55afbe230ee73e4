# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab down`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.lab.name import Same, agreed
from ciliumpy.cli.lab.say import say

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The lab; else that of $CILIUMPY_LAB, else the only one.")
]


def run(name: Name = None, lab: Same = None) -> None:
    """Stop the lab and remove everything it made, whatever state it is in."""
    from ciliumpy.client import target
    from ciliumpy.lab import lifecycle, place

    name = agreed(name, lab)
    if name is None:
        labs = target.labs()
        name = place.only_lab(None).name if labs else target.preferred() or place.DEFAULT_NAME
    if lifecycle.down(name, say):
        say(f"lab {name} is gone")
    else:
        say(f"there is no lab {name!r}: nothing to do")
