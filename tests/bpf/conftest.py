# SPDX-License-Identifier: Apache-2.0
"""One network namespace for all packet tests (a test run needs real devices and routes), a fresh node for each."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf import build
from tests.bpf.devices import enter, namespace
from tests.bpf.node import Node
from tests.bpf.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTING = Path(__file__).parent / "c"


@pytest.fixture(scope="session")
def _namespace() -> Iterator[tuple[int, dict[str, int]]]:
    with namespace() as made:
        yield made


@pytest.fixture
def devices(_namespace: tuple[int, dict[str, int]]) -> Iterator[dict[str, int]]:
    """Interface numbers by name; the test runs in their namespace."""
    inside, found = _namespace
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(inside)
    try:
        yield found
    finally:
        enter(before)
        os.close(before)


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """What a session shares may take longer than a test: its first test would fail, and all others with it."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The objects of the package, built afresh, and those for tests only."""
    with untimed():
        build.build()
        found = {name: build.OBJECTS / f"{name}.o" for name in ("datapath", "datapath_wide", "closed")}
        folder = tmp_path_factory.mktemp("objects")
        for source in TESTING.glob("*.bpf.c"):
            name = source.name.removesuffix(".bpf.c")
            found[name] = folder / f"{name}.o"
            build.compile_object(source, found[name], extra=("-I", str(build.SOURCES)))
    return found


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    made = Pool()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_node(devices: dict[str, int], objects: dict[str, Path], pool: Pool) -> Iterator[Callable[..., Node]]:
    """Node of an object (datapath unless named), constants and map sizes as wanted."""
    made: list[Node] = []

    def make(name: str = "datapath", sizes: dict[str, int] | None = None, **rodata: int) -> Node:
        made.append(Node(pool, objects[name], devices, sizes=sizes, **rodata))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)
