# SPDX-License-Identifier: Apache-2.0
"""What may go to a terminal: names, labels and messages come from manifests and from the wire."""

from __future__ import annotations

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that it cannot move the cursor or colour anything."""
    return text.translate(_CONTROL)
