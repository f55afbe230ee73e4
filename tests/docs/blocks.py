# SPDX-License-Identifier: Apache-2.0
"""PURE: the blocks of a page, what their text says of a command's output; docs/development/docs.md has the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# What may stand for a value that is another one each time. A number behind it (`<ip-1>`) means the same value wherever
# it stands on the page.
PLACEHOLDERS = {
    "ip": r"\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f:]*:[0-9a-f]*",
    "mac": r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}",
    "port": r"[1-9]\d{0,4}",
    "id": r"[1-9]\d*",
    "pid": r"[1-9]\d*",
    "n": r"-?\d+(?:[.,]\d+)*",
    "hex": r"(?:0x)?[0-9a-f]+",
    "time": r"(?:[A-Z][a-z]{2} [ \d]\d |\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?Z?",
    "duration": r"(?:\d+(?:\.\d+)?(?:ms|[µu]s|[smhd]))+",
    "name": r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?",
    "path": r"/[^\s:]*",
    "version": r"\d+\.\d+[-.+\w]*",
}
WILDCARD = "…"
_PLACEHOLDER = re.compile(rf"<({'|'.join(PLACEHOLDERS)})(?:-(\d+))?>")
_FENCE = re.compile(r"^```(\S*)[ ]*(.*)$")
_NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")


class PageError(Exception):
    """A page that cannot be run as it is written."""


@dataclass
class Command:
    """A command and the output that the page shows. Lines are counted from 1; `first` is that of the first output."""

    text: str
    line: int
    first: int
    output: list[str] = field(default_factory=list)


@dataclass
class Block:
    """A block of commands, or with `file` one whose text is to be in a file of that name."""

    line: int
    not_run: str = ""
    file: str = ""
    lines: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


def blocks(text: str, page: str = "") -> list[Block]:
    """Return the console blocks and the files of a page, in order."""
    found: list[Block] = []
    current: Block | None = None
    open_fence = False
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line.strip()) if not open_fence else None
        if open_fence and line.strip() == "```":
            open_fence = False
            if current is not None and not current.file:
                _commands(current, page)
            current = None
        elif fence:
            open_fence = True
            marked = _NOT_RUN.match(before)
            if fence[1] == "console":
                current = Block(number, marked[1] if marked else "")
            elif fence[2]:
                current = Block(number, file=fence[2])
            if current is not None:
                found.append(current)
        elif current is not None:
            current.lines.append(line)
        before = line.strip()
    return found


def _commands(block: Block, page: str) -> None:
    for number, line in enumerate(block.lines, block.line + 1):
        if line.startswith("$ "):
            block.commands.append(Command(line[2:], number, number + 1))
        elif not block.commands:
            raise PageError(f"{page}:{number}: a console block begins with `$ COMMAND`, not with {line!r}")
        elif line.startswith("> ") and not block.commands[-1].output:
            block.commands[-1].text += f"\n{line[2:]}"
            block.commands[-1].first = number + 1
        elif line.startswith("    ") and block.commands[-1].text.endswith("\\") and not block.commands[-1].output:
            block.commands[-1].text += f"\n{line}"
            block.commands[-1].first = number + 1
        else:
            if line.count(WILDCARD) > 1:
                raise PageError(f"{page}:{number}: more than one {WILDCARD} in a line")
            block.commands[-1].output.append(line)


def matches(expected: list[str], actual: list[str], known: dict[str, str]) -> bool:
    """Return whether the output is as the page shows it; `known` gains the values of numbered placeholders.

    Runs of blanks count as one, so that columns may be as wide as they come. A line that is `…` alone is any number of
    lines; within a line `…` is any text.
    """
    named: dict[str, str] = {}
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == WILDCARD else f"{_line(line, known, named)}\n" for line in expected
    )
    found = re.fullmatch(pattern, "".join(f"{' '.join(line.split())}\n" for line in actual))
    if found:
        known |= {name: found[group] for name, group in named.items()}
    return found is not None


def first_wrong(expected: list[str], actual: list[str], known: dict[str, str]) -> int:
    """Return the index of the first line of `expected` that is not there; one more than the last: more was printed."""
    return next(
        (n for n in range(len(expected)) if not matches([*expected[: n + 1], WILDCARD], actual, dict(known))),
        len(expected),
    )


def _line(line: str, known: dict[str, str], named: dict[str, str]) -> str:
    parts = []
    at = 0
    text = " ".join(line.split())
    for placeholder in _PLACEHOLDER.finditer(text):
        parts.append(_literal(text[at : placeholder.start()]))
        at = placeholder.end()
        kind, number = placeholder[1], placeholder[2]
        name = f"{kind}-{number}"
        if number is None:
            parts.append(f"(?:{PLACEHOLDERS[kind]})")
        elif name in known:
            parts.append(re.escape(known[name]))
        elif name in named:
            parts.append(f"(?P={named[name]})")
        else:
            named[name] = f"{kind}_{number}"
            parts.append(f"(?P<{named[name]}>{PLACEHOLDERS[kind]})")
    return "".join([*parts, _literal(text[at:])])


def _literal(text: str) -> str:
    return re.escape(text).replace(re.escape(WILDCARD), r"[^\n]*")


# What UPDATE_DOCS writes for values that are surely others the next time; the author puts the rest right.
_GENERIC = (
    (re.compile(rf"\b{PLACEHOLDERS['time']}(?!\w)"), "<time>"),
    (re.compile(r"-[a-z0-9]{9}-[a-z0-9]{5}\b"), "-<name>"),
    (re.compile(r"\(pid \d+\)"), "(pid <pid>)"),
    (re.compile(r"\b10\.244\.\d+\.\d+\b|\bfd00:10:244:[0-9a-f:]+"), "<ip>"),
    (re.compile(r"\bafter \d+\.\d s\b"), "after <n> s"),
)


def general(line: str) -> str:
    """Return a line of output with placeholders for what is another value each time."""
    for pattern, placeholder in _GENERIC:
        line = pattern.sub(placeholder, line)
    return line.rstrip()
