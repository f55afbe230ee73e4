# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.kit.units import format_bytes, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3),
        ("4m", 240),
        ("1h43m", 6180),
        ("1.5h", 5400),
        ("2d", 172800),
        ("250ms", 0.25),
        ("10", 10),
        ("1m.5s", 60.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "5x", "-5s", "5 m", "1h-3m", "s5", "5m ago", "\n5m\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (45.9, "45s"),
        (60, "1m"),
        (192, "3m12s"),
        (18120, "5h2m"),
        (3600, "1h"),
        (1047600, "12d3h"),
        (86401, "1d"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(seconds=st.integers(0, 10**9))
def test_what_is_written_is_read_back_to_its_two_parts(seconds: int) -> None:
    back = parse_duration(format_duration(seconds))
    assert back <= seconds
    assert seconds - back < max(60, seconds / 24)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (512, "512 B"), (1536, "1.5 KiB"), (12 << 20, "12 MiB"), (3 << 40, "3072 GiB"), (1023, "1023 B")],
)
def test_bytes_are_written(count: int, text: str) -> None:
    assert format_bytes(count) == text
