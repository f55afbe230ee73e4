# SPDX-License-Identifier: Apache-2.0
"""How the admin API says that something cannot be answered."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from ciliumpy.kit.errors import CiliumpyError


class AbsentError(CiliumpyError):
    """What was asked for is not there."""


def error(status: int, message: str, hint: str | None) -> Response:
    return JSONResponse({"message": message, "hint": hint or ""}, status_code=status)
