# SPDX-License-Identifier: Apache-2.0
"""Prints a list of objects in the form that the user asked for.

The JSON is an interface: one envelope `{"apiVersion", "kind", "items", "errors"}`, camelCase keys, numbers as numbers.
Text is aligned and sorted, upper-case headings three blanks apart; a cell that holds a list goes on in the next lines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import typer

from ciliumpy.cli.terminal import hint_text, printable
from ciliumpy.kit.errors import CiliumpyError

API_VERSION = "ciliumpy/v1"
GAP = "   "

Item = Mapping[str, Any]
Pairs = list[tuple[str, object]]


class Column(NamedTuple):
    """A column of the text forms. `title` may have two lines; `value` returns a scalar or a list of lines."""

    title: str
    value: Callable[[Item], object]
    wide: bool = False  # only with -o wide
    right: bool = False  # numbers to compare
    narrow: bool = False  # only without -o wide


class Problem(NamedTuple):
    """A node that did not answer, why, and what may be done."""

    node: str
    message: str
    hint: str = ""


class Problems(list[Problem]):
    """Those that did not answer, of `asked` nodes. What several were asked is shown by node, whoever answered."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.asked = asked


class Format(NamedTuple):
    kind: str
    template: str = ""


def parse_format(text: str) -> Format:
    """Return what `-o` asks for."""
    kind, equals, template = text.partition("=")
    if kind == "jsonpath" and equals:
        return Format(kind, template)
    if text in ("text", "wide", "json", "yaml", "name"):
        return Format(text)
    raise CiliumpyError(
        f"there is no output format {text!r}",
        "text, wide, json, yaml, name, or jsonpath='{.items[*].node}'",
        exit_code=2,
    )


def show(
    kind: str,
    items: Iterable[Item],
    columns: Sequence[Column],
    output: str,
    *,
    name: Callable[[Item], str],
    sort: Callable[[Item], Any],
    errors: Problems | None = None,
    empty: str = "",
    alone: bool = False,
) -> None:
    """Print `items` on stdout and `errors` on stderr; end with exit code 1 if there are errors.

    `name` is what `-o name` prints of an item, behind its kind and node; `alone`: it names one thing on all nodes, is
    printed once and by itself. `empty` is what stands on stderr instead of an empty table. Items that come from an
    agent carry `node`; the text forms show it when several nodes were asked (`errors` says how many).
    """
    form = parse_format(output)
    rows = sorted(items, key=lambda item: (str(item.get("node", "")), sort(item)))
    errors = Problems(1) if errors is None else errors
    if form.kind in ("text", "wide"):
        other = "narrow" if form.kind == "wide" else "wide"
        shown = [column for column in columns if not getattr(column, other)]
        if errors.asked > 1 and any("node" in row for row in rows):
            shown.insert(0, Column("NODE", lambda item: item.get("node", "")))
        if rows:
            sys.stdout.write(fitted(shown, rows, terminal_width()))
        elif empty and not errors:
            sys.stderr.write(empty + "\n")
    elif form.kind == "name":
        noun = kind.removesuffix("List").lower()
        if alone:
            sys.stdout.write("".join(f"{each}\n" for each in dict.fromkeys(map(name, rows))))
            rows = []
        for row in rows:
            place = f"{row['node']}:" if errors.asked > 1 and row.get("node", name(row)) != name(row) else ""
            sys.stdout.write(f"{noun}/{place}{name(row)}\n")
    else:
        sys.stdout.write(document(envelope(kind, rows, errors), form))
    finish(errors)


def finish(errors: Sequence[Problem]) -> None:
    """Say which nodes did not answer, and end with exit code 1 if there are any."""
    if errors:
        sys.stdout.flush()
        for error in errors:
            sys.stderr.write(f"Error: node {error.node}: {printable(error.message)}\n")
        for hint in dict.fromkeys(error.hint for error in errors if error.hint):
            sys.stderr.write(hint_text(hint))
        raise typer.Exit(1)


def show_one(kind: str, item: Item, pairs: Sequence[tuple[str, object]], output: str, *, name: str) -> None:
    """Print one object: `pairs` of name and value as text, else the envelope of a list of one."""
    form = parse_format(output)
    if form.kind in ("text", "wide"):
        sys.stdout.write(description(pairs))
    elif form.kind == "name":
        sys.stdout.write(f"{kind.removesuffix('List').lower()}/{name}\n")
    else:
        sys.stdout.write(document(envelope(kind, [item], ()), form))


def description(pairs: Sequence[tuple[str, object]], width: int = 0) -> str:
    """Return `Name:   value` lines, values aligned; a value that is a list goes on in the next lines."""
    width = max(width, *(len(title) + 1 for title, _ in pairs))
    text = []
    for title, value in pairs:
        for n, line in enumerate(lines(value)):
            head = f"{title}:" if n == 0 else ""
            text.append(f"{head:<{width}}{GAP}{line}".rstrip() + "\n")
    return "".join(text)


def envelope(kind: str, items: Sequence[Item], errors: Sequence[Problem]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "items": list(items),
        "errors": [{"node": error.node, "message": error.message} for error in errors],
    }


def document(value: Any, form: Format) -> str:
    """Return `value` as JSON, as YAML, or what a JSONPath template picks of it."""
    if form.kind == "yaml":
        import yaml

        return str(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))
    if form.kind == "jsonpath":
        from ciliumpy.cli.jsonpath import render

        text = render(form.template, value)
        return text if text.endswith("\n") or not text else text + "\n"
    import json

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def terminal_width() -> int:
    """Return how wide the terminal on stdout is, 0 if there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    except (OSError, ValueError):
        return 0


def fitted(columns: Sequence[Column], rows: Sequence[Item], width: int) -> str:
    """Return a table, its columns closer together where that makes it fit a terminal of `width`; 0: there is none."""
    text = table(columns, rows)
    if width and widest(text) > width:
        closer = table(columns, rows, gap=GAP[:-1])
        return closer if widest(closer) <= width else text
    return text


def widest(text: str) -> int:
    return max(map(len, text.split("\n")))


def table(columns: Sequence[Column], rows: Iterable[Item], *, gap: str = GAP) -> str:
    """Return an aligned text table with its heading, no trailing blanks."""
    heading = [column.title.split("\n") for column in columns]
    grid = [heading, *([lines(column.value(row)) for column in columns] for row in rows)]
    widths = [max(len(line) for cells in grid for line in cells[i] or [""]) for i in range(len(columns))]
    text = []
    for cells in grid:
        for n in range(max(map(len, cells), default=0)):
            parts = [
                (cell[n] if n < len(cell) else "").rjust(width)
                if column.right
                else (cell[n] if n < len(cell) else "").ljust(width)
                for column, cell, width in zip(columns, cells, widths, strict=True)
            ]
            text.append(gap.join(parts).rstrip() + "\n")
    return "".join(text)


def lines(value: object) -> list[str]:
    """Return the lines of a cell."""
    if value is None:
        return [""]
    parts = value if isinstance(value, list | tuple) else [value]
    return [printable(line) for part in parts for line in str(part).split("\n")] or [""]
