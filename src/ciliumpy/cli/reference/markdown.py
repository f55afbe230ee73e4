# SPDX-License-Identifier: Apache-2.0
"""The little Markdown that the pages need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def head(title: str, source: str) -> str:
    """Return the beginning of a page that is made from `source`."""
    return (
        "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
        f"<!-- Made from {source}: python -m ciliumpy.cli.reference -->\n\n# {title}\n\n"
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars in cells are escaped, line ends become blanks."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cell(each) for each in line)} |\n" for line in lines)


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def code(text: str) -> str:
    """Return a text as code in a line; nothing for an empty one."""
    return f"`{text}`" if text else ""
