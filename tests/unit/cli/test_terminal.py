# SPDX-License-Identifier: Apache-2.0
"""What names, labels and excerpts of manifests may do to a terminal: nothing."""

from __future__ import annotations

import unicodedata

import pytest

from ciliumpy.cli.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31ma\x07", "\\x1b[31ma\\x07"),
        ("a\tb\n", "a\tb\n"),
        ("\u202ednatsi\u2069", "\\u202ednatsi\\u2069"),
        ("a\u2028b", "a\\u2028b"),
        ("größe ⎈ 漢字", "größe ⎈ 漢字"),
    ],
)
def test_what_moves_the_cursor_or_turns_text_around_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_character_that_turns_the_direction_around_is_left() -> None:
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    found = [chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in turning]
    assert found
    assert [each for each in found if printable(each) == each] == []
