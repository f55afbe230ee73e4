# SPDX-License-Identifier: Apache-2.0
"""How long the long tests are: `make soak` runs ten times what `make test` does."""

from __future__ import annotations

import os

SOAK = bool(os.environ.get("CILIUMPY_SOAK"))


def scaled(count: int) -> int:
    """Return `count`, ten times that in a soak run."""
    return 10 * count if SOAK else count
