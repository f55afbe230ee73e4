# SPDX-License-Identifier: Apache-2.0
"""One boot for each kernel: everything that is asked of it runs in that one guest. As many guests at once as CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ciliumpy.bpf import build
from tests.kernels import guest, kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 840
ROOT = Path(__file__).parents[2]
BY_NAME = {series.name: series for series in kernels.SERIES}


class Outcome(NamedTuple):
    """`instructions`: what the verifier walked, by compiler and program. `output` is pytest's, and what went wrong."""

    series: str
    release: str
    code: int | None
    instructions: dict[str, dict[str, int]]
    output: str


class Guests:
    """Starts the guests of all kernels that are asked for, and knows what came out of each."""

    def __init__(self, wanted: list[str], folder: Path) -> None:
        self._machines: list[subprocess.Popen[str]] = []
        self._workers = ThreadPoolExecutor(os.cpu_count() or 1, "guest")
        _compile(folder)
        self._outcomes: dict[str, Future[Outcome]] = {
            name: self._workers.submit(self._run, BY_NAME[name], folder) for name in wanted
        }

    def outcome(self, name: str) -> Outcome:
        """UnavailableError: there is no such kernel here."""
        return self._outcomes[name].result()

    def close(self) -> None:
        for outcome in self._outcomes.values():
            outcome.cancel()
        for machine in self._machines:
            machine.kill()
        self._workers.shutdown()

    def _run(self, series: kernels.Series, folder: Path) -> Outcome:
        kernel = kernels.fetch(series)
        command = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(Path(__file__).with_name("inside.py"))]
        run = guest.run(kernel, [*command, str(folder)], folder=ROOT, timeout_s=TIMEOUT_S, running=self._machines)
        said = [json.loads(line[2:]) for line in run.output.splitlines() if line.startswith("@ ")]
        instructions = dict(one["instructions"] for one in said if "instructions" in one)
        rest = "\n".join(line for line in run.output.splitlines() if line and not line.startswith("@ "))
        return Outcome(series.name, kernel.release, run.code, instructions, rest)


def _compile(folder: Path) -> None:
    """Objects are compiled here: a compiler takes long under emulation."""
    build.build()
    for source in sorted((ROOT / "tests/bpf/c").glob("*.bpf.c")):
        target = folder / f"{source.name.removesuffix('.bpf.c')}.o"
        build.compile_object(source, target, extra=("-I", str(build.SOURCES)))
    for number, clang in build.installed_clangs().items():
        for name in ("datapath", "datapath_wide"):
            build.compile_object(build.SOURCES / f"{name}.bpf.c", folder / f"{name}-clang-{number}.o", clang=clang)


@pytest.fixture(scope="session")
def _guests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    asked = {item.callspec.params["outcome"]: None for item in request.session.items if _asks(item)}
    try:
        guests = Guests(list(asked), tmp_path_factory.mktemp("prebuilt"))
    except build.BuildError as error:
        pytest.skip(f"kernels under qemu: {error}")
    try:
        yield guests
    finally:
        guests.close()


def _asks(item: pytest.Item) -> bool:
    return "outcome" in getattr(getattr(item, "callspec", None), "params", {})


@pytest.fixture(scope="session", params=list(BY_NAME))
def outcome(request: pytest.FixtureRequest, _guests: Guests) -> Outcome:
    """What happened in the guest."""
    try:
        return _guests.outcome(request.param)
    except kernels.UnavailableError as error:
        pytest.skip(f"Linux {request.param} under qemu: {error}")
