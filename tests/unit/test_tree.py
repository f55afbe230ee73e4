# SPDX-License-Identifier: Apache-2.0
"""The tree itself: licence lines, file sizes, and that the architecture page points at files that do what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ("src/ciliumpy/proto/", "requirements")


def _files(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *patterns], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [n for n in listed.stdout.splitlines() if not n.startswith(GENERATED)]
    return [ROOT / n for n in names if (ROOT / n).is_file()]


def test_every_source_file_names_its_licence() -> None:
    sources = _files("*.py", "*.c", "*.h", "*.toml", "Makefile", ".ci/run", "scripts/*")
    assert sources
    silent = [str(p.relative_to(ROOT)) for p in sources if "SPDX-License-Identifier:" not in p.read_text()[:400]]
    assert silent == []


def test_bpf_code_carries_the_kernel_s_licence() -> None:
    files = _files("src/ciliumpy/bpf/c/*")
    assert files
    line = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
    assert [str(p.relative_to(ROOT)) for p in files if line not in p.read_text()[:200]] == []


def test_no_file_has_more_than_500_lines() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for p in _files("*.py", "*.c", "*.h")
        if (n := len(p.read_text().splitlines())) > 500
    }
    assert long == {}


# What a newcomer looks for, and words that the file which does it must hold.
ANSWERS = {
    "a drop reason is printed": "drop_reason",
    "a map's layout lives": "struct endpoint",
    "a policy becomes rows": "PolicySet",
    "the agent's parts start": "async def",
}


@pytest.mark.parametrize("question", ANSWERS)
def test_architecture_page_points_at_the_file_that_does_it(question: str) -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    row = next((line for line in page.splitlines() if question in line), None)
    assert row, f"docs/architecture.md does not say where {question}"
    named = re.findall(r"`((?:src/ciliumpy/)?[\w/]+\.(?:py|h))`", row)
    assert named, row
    for name in named:
        file = ROOT / (name if name.startswith("src/") else f"src/ciliumpy/{name}")
        assert file.is_file(), f"{name} does not exist"
    texts = [(ROOT / (n if n.startswith("src/") else f"src/ciliumpy/{n}")).read_text() for n in named]
    assert any(ANSWERS[question] in text for text in texts), f"{named} do not mention {ANSWERS[question]}"


def test_links_in_the_docs_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = [(page, to) for page in pages for to in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())]
    broken = [f"{p.relative_to(ROOT)}: {to}" for p, to in links if "://" not in to and not (p.parent / to).exists()]
    assert broken == []


def test_paths_in_the_developers_pages_exist() -> None:
    """Files by their path from the root; names beside them (`REFUSE`) are in a file of the same paragraph."""
    for page in sorted((ROOT / "docs/development").glob("*.md")):
        for paragraph in re.split(r"\n(?=\n|\d+\. |- )", page.read_text()):
            spans = re.findall(r"`([^`\n]+)`", paragraph)
            paths = [ROOT / s for s in spans if re.fullmatch(r"(?:src|tests|docs|changelog\.d)/[\w./-]*", s)]
            missing = [str(p.relative_to(ROOT)) for p in paths if not p.exists()]
            assert missing == [], page.name
            texts = [p.read_text() for p in paths if p.is_file()]
            names = [s for s in spans if re.fullmatch(r"(?:struct )?[A-Za-z]\w*[A-Z_]\w*", s)]
            unknown = [name for name in names if texts and not any(name in text for text in texts)]
            assert unknown == [], f"{page.name}: not in {', '.join(p.name for p in paths)}"
