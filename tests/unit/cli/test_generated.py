# SPDX-License-Identifier: Apache-2.0
"""Completions and the reference: as the command tree makes them now, and working in the shells themselves."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ciliumpy.cli.app import root
from ciliumpy.cli.completions import FILES, SCRIPTS
from ciliumpy.cli.reference.__main__ import pages
from ciliumpy.cli.tree import tree

ROOT = Path(__file__).parents[3]
BASH = ROOT / "completions" / FILES["bash"]
ZSH = ROOT / "completions" / FILES["zsh"]


@pytest.mark.parametrize("shell", FILES)
def test_completions_are_those_of_the_tree(shell: str) -> None:
    kept = (ROOT / "completions" / FILES[shell]).read_text()
    assert kept == SCRIPTS[shell](), "python -m ciliumpy.cli.completions"


def test_the_reference_is_that_of_the_code() -> None:
    made = pages()
    for name, text in made.items():
        assert (ROOT / name).read_text() == text, f"{name}: python -m ciliumpy.cli.reference"
    kept = {f"docs/man/{path.name}" for path in (ROOT / "docs/man").iterdir()}
    assert kept == {name for name in made if name.startswith("docs/man/")}


def test_every_verb_and_flag_says_what_it_is() -> None:
    for node in tree().walk():
        assert node.help, node.path
        assert len(node.help) <= 72, node.path
        for flag in node.flags:
            assert flag.help, (node.path, flag.names)


def bash(line: str) -> list[str]:
    """What bash offers at the end of a line."""
    words = [*shlex.split(line), ""] if line.endswith(" ") else shlex.split(line)
    script = (
        f"source {BASH}; COMP_WORDS=({' '.join(shlex.quote(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
        "_ciliumpy; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    child = subprocess.run(["bash", "--norc", "-u", "-c", script], capture_output=True, text=True, check=True)
    assert child.stderr == ""
    return child.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ciliumpy st", ["status", "statedb"]),
        ("ciliumpy bpf ", ["map", "ct", "endpoint", "ipcache", "identity", "metrics", "policy"]),
        ("ciliumpy bpf map ", ["list", "dump", "get"]),
        ("ciliumpy bpf map list ", []),
        ("ciliumpy completion ", ["bash", "zsh"]),
        ("ciliumpy endpoint list --no", ["--node"]),
        ("ciliumpy endpoint ls --no", ["--node"]),
        ("ciliumpy endpoint --", ["--help"]),
        ("ciliumpy status -o j", ["json", "jsonpath="]),
        ("ciliumpy status --output y", ["yaml"]),
        ("ciliumpy status --node ", []),
        ("ciliumpy observe --verdict D", ["DROPPED"]),
        ("ciliumpy observe -t ", ["drop", "trace", "policy-verdict"]),
        ("ciliumpy observe --traffic-direction i", ["ingress"]),
        ("ciliumpy observe -o t", ["table"]),
        ("ciliumpy monitor --type p", ["policy-verdict"]),
        (f"ciliumpy lab apply -f {ROOT}/LICENSES/A", [f"{ROOT}/LICENSES/Apache-2.0.txt"]),
        (f"ciliumpy lab delete --file {ROOT}/LICENSES/A", [f"{ROOT}/LICENSES/Apache-2.0.txt"]),
        ("ciliumpy status --node n1 --wai", ["--wait", "--wait-duration"]),
        ("ciliumpy policy get --lab demo -n shop --no", ["--node"]),
        ("ciliumpy lab exec pod -- ", []),
        ("ciliumpy nonsense ", list(root().entries)),
    ],
)
def test_bash_completes(line: str, offered: list[str]) -> None:
    assert bash(line) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ciliumpy bpf ", ["ct", "endpoint", "identity", "ipcache", "map", "metrics", "policy"]),
        ("ciliumpy endpoint list --n", ["--namespace", "--node"]),
        ("ciliumpy bpf map list -o ", ["json", "jsonpath=", "name", "text", "wide", "yaml"]),
        ("ciliumpy completion ", ["bash", "zsh"]),
    ],
)
def test_zsh_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    start = (
        f"PS1='%# '; fpath=({ZSH.parent} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump; "
        "LISTMAX=10000; zstyle ':completion:*' list-prompt ''; bindkey '^I' list-choices; print READ''Y"
    )
    script = (
        "zmodload zsh/zpty; zpty shell zsh -f -i; zpty -w shell $1; zpty -r shell said '*READY*'; "
        "zpty -w -n shell $2$'\\t'; for word in ${@:3}; do zpty -r shell said \"*$word*\"; print -r -- $word; done; "
        "zpty -d shell"
    )
    child = subprocess.run(
        ["zsh", "-f", "-c", script, "zsh", start, line, *offered],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env={"TERM": "dumb", "PATH": "/usr/bin:/bin", "COLUMNS": "80", "HOME": str(tmp_path)},
    )
    assert child.stdout.split() == offered
