# SPDX-License-Identifier: Apache-2.0
"""The one error a user sees: what happened, why, what to do next. Raised low, printed once at the top."""

from __future__ import annotations


class CiliumpyError(Exception):
    """A failure that is explained to the user without a traceback.

    `message` says what happened and why, `hint` what to do next, `exit_code` is the process's (1: it failed, 2: it was
    asked wrongly).
    """

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
