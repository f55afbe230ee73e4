# SPDX-License-Identifier: Apache-2.0
"""Logging: one line an event, to standard error; times in UTC. Only a traceback has more lines."""

from __future__ import annotations

import logging
import sys
import time

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class OneLine(logging.Formatter):
    """Escapes control characters: a name in a message cannot make a line of its own, or move the cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return super().formatMessage(record).translate(_CONTROL)


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = OneLine("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    set_level(level)
    # What we hear of them would be said by ourselves, or is of no use to who runs the agent.
    for chatty in ("asyncio", "uvicorn", "pyroute2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Log lines of this importance and above from now on: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())
