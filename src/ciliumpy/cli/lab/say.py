# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr, one line a step."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
