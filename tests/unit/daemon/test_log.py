# SPDX-License-Identifier: Apache-2.0
"""A message is one line, whatever names are in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ciliumpy.daemon import log


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    before = root.handlers, root.level
    yield root
    root.handlers, level = before
    root.setLevel(level)


def test_a_name_makes_no_line_of_its_own(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    try:
        raise ValueError("why")
    except ValueError:
        root.exception("pod %s", "a\n2026-01-01T00:00:00.000Z ERROR x: \x1b[31mforged\x9b")
    first, *traceback = capsys.readouterr().err.splitlines()
    assert first.endswith(r" ERROR root: pod a\x0a2026-01-01T00:00:00.000Z ERROR x: \x1b[31mforged\x9b")
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ValueError: why"
