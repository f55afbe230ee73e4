# SPDX-License-Identifier: Apache-2.0
"""What everyday commands load. Module sets, not clocks: a busy machine makes any clock lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciliumpy.bpf import sys as bpf
from tests.golden.agents import Lab, lab

HEAVY = {
    *("asyncio", "cryptography", "google", "grpc", "kubernetes", "msgspec", "numpy", "pydantic", "pyroute2", "rich"),
    *("starlette", "structlog", "uvicorn", "yaml"),
}
MOST = 180  # Python 3.13 itself loads some more than 3.11
PROGRAM = """
import json, sys
from ciliumpy.cli.__main__ import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("run")) as built:
        yield built


def loaded(arguments: list[str], run_dir: Path) -> tuple[int, set[str], str]:
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(run_dir)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(child.stderr.splitlines()[-1])
    return said["code"], set(said["modules"]), child.stdout


def check(modules: set[str]) -> None:
    assert {module for module in modules if module.partition(".")[0] in HEAVY} == set()
    assert len(modules) <= MOST, sorted(modules)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "Show how the agents are."),
        (["--version"], "agent n1"),
        (["version"], "agent n1"),
        (["status"], "n2     Ok"),
        (["status", "--node", "n1", "-o", "json"], '"uptimeSeconds"'),
        (["endpoint", "list"], "10.244.1.3"),
        (["bpf", "--help"], "ipcache"),
        (["status", "--help"], "--wait-duration"),
    ],
    ids=" ".join,
)
def test_light_commands(arguments: list[str], shown: str, running: Lab) -> None:
    code, modules, printed = loaded(arguments, running.run_dir)
    assert code == 0
    assert shown in printed
    check(modules)


def test_completion_is_lighter_still(running: Lab) -> None:
    code, modules, printed = loaded(["__complete", "pods", ""], running.run_dir)
    assert (code, printed.splitlines()[0]) == (0, "guest/visitor-1")
    check(modules)
    assert "typer" not in modules


@pytest.mark.root
def test_map_list_is_light(running: Lab) -> None:
    bpffs = Path(f"/sys/fs/bpf/cpt-{os.getpid()}-startup")
    pin = bpffs / "maps" / "cp_test_v1"
    fd = bpf.map_create(bpf.MapType.HASH, 4, 8, 16, name="cp_test_v1")
    try:
        pin.parent.mkdir(parents=True)
        bpf.obj_pin(fd, pin)
        running.announce("n1", bpffs=str(bpffs))
        code, modules, printed = loaded(["bpf", "map", "list", "--node", "n1"], running.run_dir)
    finally:
        os.close(fd)
        running.announce("n1")
        pin.unlink(missing_ok=True)
        pin.parent.rmdir()
        bpffs.rmdir()
    assert code == 0
    assert "cp_test_v1   hash" in printed
    check(modules)
