# SPDX-License-Identifier: Apache-2.0
"""Logging: one line an event, to standard error; times in UTC."""

from __future__ import annotations

import logging
import sys
import time


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # What we hear of them would be said by ourselves, or is of no use to who runs the agent.
    for chatty in ("asyncio", "uvicorn", "pyroute2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
