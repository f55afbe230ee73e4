# SPDX-License-Identifier: Apache-2.0
"""Completions and the reference: as the command tree makes them now, and working in the shells themselves."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciliumpy.cli.app import root
from ciliumpy.cli.completions import FILES, SCRIPTS
from ciliumpy.cli.reference.__main__ import pages
from ciliumpy.cli.tree import tree
from tests.golden.agents import Lab, lab

ROOT = Path(__file__).parents[3]
BASH = ROOT / "completions" / FILES["bash"]
ZSH = ROOT / "completions" / FILES["zsh"]
FISH = ROOT / "completions" / FILES["fish"]
PROGRAM = Path(sys.executable).with_name("ciliumpy")
needs_program = pytest.mark.skipif(not PROGRAM.exists(), reason="the command is not installed")
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")


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


def bash(line: str, program: str = "ciliumpy", run_dir: Path | None = None) -> list[str]:
    """What bash offers at the end of a line."""
    words = [*shlex.split(line), ""] if line.endswith(" ") else shlex.split(line)
    script = (
        f"source {BASH}; COMP_WORDS=({' '.join(shlex.quote(word) for word in [program, *words[1:]])}); "
        f"COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDBREAKS=$' \\t\\n\"><=;|&(:'; "
        "_ciliumpy; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    child = subprocess.run(
        ["bash", "--norc", "-u", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "CILIUMPY_RUN_DIR": str(run_dir or "/nowhere")},
    )
    assert child.stderr == ""
    return child.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ciliumpy st", ["status", "statedb"]),
        ("ciliumpy bpf ", ["map", "ct", "endpoint", "ipcache", "identity", "config", "frag", "metrics", "policy"]),
        ("ciliumpy bpf map ", ["list", "dump", "get"]),
        ("ciliumpy bpf map list ", []),
        ("ciliumpy completion ", ["bash", "zsh", "fish"]),
        ("ciliumpy endpoint list --no", ["--node"]),
        ("ciliumpy endpoint ls --no", ["--node"]),
        ("ciliumpy endpoint --", ["--lab", "--node", "--output", "--help"]),
        ("ciliumpy --node n1 endpoint l", ["list"]),
        ("ciliumpy -o wide endpoint list --ou", ["--output"]),
        ("ciliumpy config ", ["list", "get", "set", "explain"]),
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


@needs_zsh
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ciliumpy bpf ", ["config", "ct", "endpoint", "frag", "identity", "ipcache", "map", "metrics", "policy"]),
        ("ciliumpy endpoint list --n", ["--namespace", "--node"]),
        ("ciliumpy bpf map list -o ", ["json", "jsonpath=", "name", "text", "wide", "yaml"]),
        ("ciliumpy completion ", ["bash", "fish", "zsh"]),
    ],
)
def test_zsh_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    assert zsh(line, offered, tmp_path) == offered


def zsh(line: str, offered: list[str], tmp_path: Path, run_dir: Path | None = None) -> list[str]:
    """Wait until zsh has offered each of the words, in that order, at the end of a line."""
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
        env={
            "TERM": "dumb",
            "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
            "COLUMNS": "80",
            "HOME": str(tmp_path),
            "CILIUMPY_RUN_DIR": str(run_dir or "/nowhere"),
        },
    )
    return child.stdout.split()


def fish(line: str, home: Path, run_dir: Path | None = None) -> list[str]:
    """What fish offers at the end of a line, in its order; without what it says of each."""
    environment = {"PATH": f"{PROGRAM.parent}:/usr/bin:/bin", "HOME": str(home), "TERM": "dumb"}
    environment["CILIUMPY_RUN_DIR"] = str(run_dir or "/nowhere")
    child = subprocess.run(
        ["fish", "--no-config", "-c", f"source {FISH}; complete -C {shlex.quote(line)}"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert child.stderr == ""
    return [each.partition("\t")[0] for each in child.stdout.splitlines()]


@needs_fish
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ciliumpy st", ["statedb", "status"]),
        ("ciliumpy bpf map ", ["dump", "get", "list"]),
        ("ciliumpy bpf map list ", []),
        ("ciliumpy completion ", ["bash", "fish", "zsh"]),
        ("ciliumpy endpoint list --no", ["--node"]),
        ("ciliumpy endpoint ls --no", ["--node"]),
        ("ciliumpy --node n1 endpoint l", ["list"]),
        ("ciliumpy status -o j", ["json", "jsonpath="]),
        ("ciliumpy observe --verdict D", ["DROPPED"]),
        (f"ciliumpy lab apply -f {ROOT}/LICENSES/A", [f"{ROOT}/LICENSES/Apache-2.0.txt"]),
        ("ciliumpy lab exec pod -- ", []),
        ("ciliumpy status --node ", []),
    ],
)
def test_fish_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    assert sorted(fish(line, tmp_path)) == offered


@needs_fish
def test_fish_says_what_words_mean(tmp_path: Path) -> None:
    command = f"source {FISH}; complete -C 'ciliumpy bpf ct f'"
    child = subprocess.run(
        ["fish", "--no-config", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert child.stdout == "flush\tForget flows: they are judged anew.\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("run")) as built:
        yield built


NAMES = [
    ("status --node ", ["n1", "n2"]),
    ("status --lab ", ["demo"]),
    ("--lab demo --node n2 endpoint get sh", ["shop/api-2"]),
    ("endpoint list -n ", ["guest", "shop"]),
    ("statedb dump pol", ["policies", "policy-sets"]),
    ("config explain hubble.ri", ["hubble.ringBytes"]),
    ("policy get ", ["shop/api"]),
    ("identity get w", ["world"]),
    ("bpf policy list --node n1 ", ["3", "4", "shop/api-1", "shop/frontend-1"]),
    ("bpf metrics get POL", ["POLICY_DENIED", "POLICY_DENY"]),
    ("lab stop ", ["n1", "n2"]),
    ("observe --from-pod g", ["guest/visitor-1"]),
    ("endpoint get n1:3 ", []),
]


@needs_program
@pytest.mark.parametrize(("line", "offered"), NAMES)
def test_bash_knows_names(line: str, offered: list[str], running: Lab) -> None:
    assert sorted(bash(f"ciliumpy {line}", str(PROGRAM), running.run_dir)) == offered


@needs_program
def test_bash_cuts_what_it_has_before_a_colon(running: Lab) -> None:
    offered = bash("ciliumpy bpf policy list n", str(PROGRAM), running.run_dir)
    assert offered == ["n1:3", "n1:4", "n2:3", "n2:4"]
    assert bash("ciliumpy bpf policy list n1:", str(PROGRAM), running.run_dir) == ["3", "4"]


@needs_program
@needs_fish
@pytest.mark.parametrize(("line", "offered"), NAMES)
def test_fish_knows_names(line: str, offered: list[str], running: Lab, tmp_path: Path) -> None:
    assert sorted(fish(f"ciliumpy {line}", tmp_path, running.run_dir)) == offered


@needs_program
@needs_zsh
@pytest.mark.parametrize(("line", "offered"), [NAMES[0], NAMES[2], NAMES[4], NAMES[11]])
def test_zsh_knows_names(line: str, offered: list[str], running: Lab, tmp_path: Path) -> None:
    assert zsh(f"ciliumpy {line}", offered, tmp_path, running.run_dir) == offered
