# SPDX-License-Identifier: Apache-2.0
"""What may go to a terminal: names, labels and messages come from manifests and from the wire."""

from __future__ import annotations

import re
import sys

from ciliumpy.kit.errors import CiliumpyError

WIDTH = 80
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# Line separators, and what turns the direction of text around: it would read as something else than it says.
_CONTROL |= {
    c: f"\\u{c:04x}" for c in (0x61C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def printable(text: str) -> str:
    """Return the text with control characters escaped: it cannot move the cursor, colour or turn around anything."""
    return text.translate(_CONTROL)


def hint_text(hint: str) -> str:
    """Return the lines of a hint, none longer than a terminal is wide; what stands in backticks stays in one piece."""
    written = ["hint:"]
    for word in re.findall(r"[^\s`]*`[^`]*`\S*|\S+", printable(hint)):
        if len(written[-1]) + 1 + len(word) > WIDTH and written[-1].strip() not in ("hint:", ""):
            written.append("     ")
        written[-1] += f" {word}"
    return "\n".join(written) + "\n"


def confirm(question: str) -> None:
    """Ask on the terminal. CiliumpyError if the answer is not yes, or (2) if there is nobody to ask."""
    if not sys.stdin.isatty():
        raise CiliumpyError(f"{question} There is no terminal to ask on", "say --yes", 2)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CiliumpyError("nothing was done")
