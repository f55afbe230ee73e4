# SPDX-License-Identifier: Apache-2.0
"""One boot for each kernel: everything that is asked of it runs in that one guest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ciliumpy.bpf import build
from tests.kernels import guest, kernels

SERIES = ("6.12",)
TIMEOUT_S = 600
ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """`loaded`: object -> program -> [instructions verified, and in the kernel]; empty if it came not so far."""

    release: str
    code: int | None
    loaded: dict[str, dict[str, tuple[int, int]]]
    output: str


@pytest.fixture(scope="session", params=SERIES)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What happened in the guest."""
    try:
        kernel = kernels.fetch(request.param)
        prebuilt = _test_objects(tmp_path_factory.mktemp("prebuilt"))
        command = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(Path(__file__).with_name("inside.py"))]
        run = guest.run(kernel, [*command, str(prebuilt)], folder=ROOT, timeout_s=TIMEOUT_S)
    except (kernels.UnavailableError, build.BuildError) as error:
        pytest.skip(f"Linux {request.param} under qemu: {error}")
    first, _, rest = run.output.partition("\n")
    loaded = json.loads(first) if first.startswith("{") else {}
    return Outcome(kernel.release, run.code, loaded, rest if loaded else run.output)


def _test_objects(folder: Path) -> Path:
    """Objects are compiled here: a compiler takes long under emulation."""
    build.build()
    for source in sorted((ROOT / "tests/bpf/c").glob("*.bpf.c")):
        target = folder / f"{source.name.removesuffix('.bpf.c')}.o"
        build.compile_object(source, target, extra=("-I", str(build.SOURCES)))
    return folder
