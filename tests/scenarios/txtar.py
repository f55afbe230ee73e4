# SPDX-License-Identifier: Apache-2.0
"""The txtar format: a comment, then sections, each begun by a line `-- name --`."""

from __future__ import annotations

import re
from typing import NamedTuple

_HEAD = re.compile(r"-- (.*\S) --\n?")


class Section(NamedTuple):
    name: str
    text: str
    line: int  # of its head, 1-based


class Archive(NamedTuple):
    comment: str
    sections: tuple[Section, ...]


def parse(text: str) -> Archive:
    parts: list[tuple[str, int, list[str]]] = [("", 0, [])]
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        head = _HEAD.fullmatch(line)
        if head:
            parts.append((head[1], number, []))
        else:
            parts[-1][2].append(line)
    (_, _, comment), *rest = parts
    return Archive("".join(comment), tuple(Section(name, "".join(lines), number) for name, number, lines in rest))


def write(archive: Archive) -> str:
    return archive.comment + "".join(f"-- {name} --\n{text}" for name, text, _ in archive.sections)
