# SPDX-License-Identifier: Apache-2.0
"""Every console block of README and docs/ is run, page by page, and prints what the page says.

`UPDATE_DOCS=1` writes what was printed instead, with placeholders for what is sure to differ: look at the diff.
"""

from __future__ import annotations

import difflib
import os
import shutil
from pathlib import Path

import pytest

from .blocks import Block, Command, blocks, first_wrong, general, matches
from .machine import ROOT, Machine

# Blocks that say why they cannot be run here, by page. One more is a decision: raise the number.
NOT_RUN = {"README.md": 1}


def pages() -> dict[str, list[Block]]:
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [str(path.relative_to(ROOT)) for path in found]
    return {name: made for name in names if (made := blocks((ROOT / name).read_text(), name))}


PAGES = pages()
RUN = [name for name, made in PAGES.items() if any(b.commands and not b.not_run for b in made)]


def test_what_is_not_run_is_said_and_counted() -> None:
    assert {name: count for name, made in PAGES.items() if (count := sum(bool(b.not_run) for b in made))} == NOT_RUN
    assert "README.md" in RUN


@pytest.mark.root
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", RUN)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the pages' pods call each other with curl, which is not installed")
    machine = Machine(f"cptdocs{os.getpid()}-{RUN.index(page)}", tmp_path)
    known: dict[str, str] = {}
    wrong: list[str] = []
    update: dict[tuple[int, int], list[str]] = {}
    try:
        for block in PAGES[page]:
            if block.file:
                (tmp_path / block.file).write_text("".join(f"{line}\n" for line in block.lines))
            for command in block.commands if not block.not_run else ():
                printed = [line.rstrip() for line in machine.run(command.text)]
                if matches(command.output, printed, known):
                    continue
                update[command.first, len(command.output)] = [general(line) for line in printed]
                wrong.append(_difference(page, command, printed, known))
    finally:
        machine.close()
    if wrong and os.environ.get("UPDATE_DOCS"):
        _rewrite(ROOT / page, update)
        return
    assert not wrong, "\n\n".join(wrong)


def _difference(page: str, command: Command, printed: list[str], known: dict[str, str]) -> str:
    """Return what is wrong, at file:line, and the whole difference."""
    at = first_wrong(command.output, printed, known)
    missing = command.output[at] if at < len(command.output) else "nothing more"
    diff = difflib.unified_diff(command.output, printed, "the page", "printed", lineterm="", n=1)
    return "\n".join([f"{page}:{command.first + at}: `{command.text}` does not print {missing!r} here", *diff])


def _rewrite(path: Path, update: dict[tuple[int, int], list[str]]) -> None:
    lines = path.read_text().splitlines()
    for (first, count), output in sorted(update.items(), reverse=True):
        lines[first - 1 : first - 1 + count] = output
    path.write_text("\n".join(lines) + "\n")
