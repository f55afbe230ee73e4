# SPDX-License-Identifier: Apache-2.0
"""The agent, as it is, but for its death between the last write of a change and the bump of its epoch.

It dies at the first bump after the file named in CPT_DIE_AT_BUMP has appeared.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ciliumpy.daemon.__main__ import main
from ciliumpy.datapath.epochs import Epochs

ARMED = Path(os.environ["CPT_DIE_AT_BUMP"])


def deadly(bump: Any) -> Any:
    def dying(self: Epochs, *arguments: Any) -> None:
        if ARMED.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        bump(self, *arguments)

    return dying


if __name__ == "__main__":
    for name in ("bump_endpoints", "bump_global", "bump_peers"):
        setattr(Epochs, name, deadly(getattr(Epochs, name)))
    sys.exit(main())
