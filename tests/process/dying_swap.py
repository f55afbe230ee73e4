# SPDX-License-Identifier: Apache-2.0
"""The agent, as it is, but for its death on the way from the narrow programs to the wide ones.

CPT_DIE_AT names the place, and how often it is passed before: "attach:2".
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ciliumpy.daemon.__main__ import main
from ciliumpy.datapath.hooks import Hooks
from ciliumpy.datapath.loader import Datapath
from ciliumpy.datapath.policy import PolicyTarget

PLACES: dict[str, tuple[Any, str]] = {
    "loaded": (PolicyTarget, "_copy_classes"),  # the wide class map is pinned, and empty
    "copied": (Datapath, "swap"),
    "attach": (Hooks, "attach"),  # armed when the swap begins
    "swapped": (Datapath, "unpin_former"),
    "unpinned": (Path, "unlink"),
    "forgotten": (Datapath, "forget_former"),
}


def dying(function: Any, armed: list[bool], passes: int) -> Any:
    def instead(*arguments: Any, **more: Any) -> Any:
        nonlocal passes
        if armed[0]:
            if not passes:
                os.kill(os.getpid(), signal.SIGKILL)
            passes -= 1
        return function(*arguments, **more)

    return instead


def arming(function: Any, armed: list[bool]) -> Any:
    def instead(*arguments: Any) -> Any:
        armed[0] = True
        return function(*arguments)

    return instead


if __name__ == "__main__":
    place, _, count = os.environ["CPT_DIE_AT"].partition(":")
    armed = [place not in {"attach", "unpinned"}]
    owner, name = PLACES[place]
    setattr(owner, name, dying(getattr(owner, name), armed, int(count or 0)))
    if place == "attach":
        Datapath.swap = arming(Datapath.swap, armed)  # type: ignore[method-assign]
    if place == "unpinned":
        Datapath.unpin_former = arming(Datapath.unpin_former, armed)  # type: ignore[method-assign]
    sys.exit(main())
