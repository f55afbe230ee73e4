# SPDX-License-Identifier: Apache-2.0
"""How a pod is called by what its containers do, and that what a pod writes does not hurt who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ciliumpy.lab.containers import Container, Health, encode, judge, read

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1000.0


def program(state: str = "running", ran: float = 100.0, **more: object) -> Container:
    return Container("c", state, command=True, since=NOW - ran, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (program(), Health("Running")),
        (program(ran=0.1), Health("Running", settled=False)),
        (Container("c", since=NOW), Health("Running")),
        (program("ended"), Health("Completed")),
        (program("ended", code=3), Health("Error", "container c ended with exit code 3", failed=True)),
        (program("waiting", code=1), Health("Running")),  # it ran for long before
        (program(early=4, code=1), Health("Running")),  # and does so again
        (program("waiting", 1, early=1), Health("CrashLoopBackOff", "container c ends with exit code 0", False)),
        (
            program(ran=1, early=3, code=-9),
            Health("CrashLoopBackOff", "container c ends with signal 9, 3 times in a row", True, True),
        ),
        (
            program("waiting", fault="x: No such file"),
            Health("CrashLoopBackOff", "container c cannot be started: x: No such file", failed=True),
        ),
        (
            program("ended", code=127, fault="x\x1b\n"),
            Health("Error", "container c cannot be started: x??", failed=True),
        ),
    ],
)
def test_a_container_names_its_pods_phase(container: Container, expected: Health) -> None:
    assert judge([container], NOW) == expected


def test_the_worst_container_decides() -> None:
    assert judge([program(), program("ended", code=2)], NOW).phase == "Error"
    assert judge([program(), program("ended")], NOW).phase == "Running"
    assert judge([program("ended", code=2), program("waiting", 1, early=1)], NOW).phase == "CrashLoopBackOff"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "state"
    assert read(file).phase == "Running", "a pod of which nothing is known"
    file.write_bytes(b"")
    assert read(file) == Health("Starting", settled=False)
    file.write_bytes(encode([program("ended", code=2)]) + b"the rest of a longer line")
    assert read(file).phase == "Error"


@pytest.mark.parametrize(
    "hostile", [b"[{", b"\xff\n", b'[{"name":1}]\n', b"[" * 100_000, b'[{"name":"c","since":1e999}]']
)
def test_what_cannot_be_read_is_no_health(tmp_path: Path, hostile: bytes) -> None:
    (tmp_path / "state").write_bytes(hostile)
    assert read(tmp_path / "state").phase in {"Starting", "Running"}
