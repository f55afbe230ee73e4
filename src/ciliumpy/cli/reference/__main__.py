# SPDX-License-Identifier: Apache-2.0
"""Writes every page."""

from __future__ import annotations

import sys
from pathlib import Path

from ciliumpy.cli.reference import commands, drop_reasons, manual, maps, settings, tables


def pages() -> dict[str, str]:
    """Return all pages, by their path in the repository."""
    reference = {
        "cli.md": commands.page(),
        "config.md": settings.page(),
        "drop-reasons.md": drop_reasons.page(),
        "maps.md": maps.page(),
        "tables.md": tables.page(),
    }
    found = {f"docs/reference/{name}": text for name, text in reference.items()}
    return found | {f"docs/man/{name}": text for name, text in manual.pages().items()}


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    made = pages()
    for old in (folder / "docs/man").glob("*.1"):
        if f"docs/man/{old.name}" not in made:
            old.unlink()
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
