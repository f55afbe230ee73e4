# SPDX-License-Identifier: Apache-2.0
"""Regular expressions as RE2 has them: what it takes, what it does not, and that looking takes no time."""

from __future__ import annotations

import time

import pytest

from ciliumpy.model.regexes import LONGEST, fault

TAKEN = [
    *("", "/public/.*", "^/a(b|c)+$", "GET|POST", "a{2,5}?", "(?i)abc", "a(?i)b", "(?i:a)b", "(?s-i)a", "(?U)a*"),
    *("(?P<name>a)", "(?<name>a)", "[[:alpha:]]+", "[^[:space:]]", "[[a]", "[]a]", r"\pL\p{Greek}\PN", r"\Qa(b\Ec"),
    *(r"a\z", r"\x{10FFFF}", r"\x41", r"\.\+", r"[+*](?:a)", r"[(?=]", r"\(?=a", "a{1000}", "(a)" * 100, r"\Q(((("),
]
REFUSED = [
    ("(", "missing )"),
    (")", "unbalanced"),
    ("[a", "unterminated"),
    ("*a", "nothing to repeat"),
    ("a**", "multiple repeat"),
    ("(?=a)", "looks ahead or behind"),
    ("(?<!a)b", "looks ahead or behind"),
    ("(?>a)", "an atomic group"),
    ("(?#a)", "a comment"),
    ("(a)?(?(1)b)", "a condition"),
    (r"(a)\1", "refers back"),
    ("(?P<n>a)(?P=n)", "refers back"),
    ("a*+", "repeats a repetition"),
    ("a{2,3}+", "repeats a repetition"),
    ("a{1001}", "more than 1000 times"),
    ("a{,1001}", "more than 1000 times"),
    ("a{1,99999999999999999999}", "more than 1000 times"),
    ("(a)" * 101, "more than 100 groups"),
    ("(" * 101, "more than 100 groups"),
    ("[z-a]", "bad character range"),
    ("a" * (LONGEST + 1), "at most 4096"),
]


@pytest.mark.parametrize("text", TAKEN, ids=lambda text: text[:20])
def test_taken(text: str) -> None:
    assert fault(text) is None


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[text[:20] for text, _ in REFUSED])
def test_refused(text: str, why: str) -> None:
    assert why in (fault(text) or "")


@pytest.mark.parametrize("piece", ["[", "(", "\\Q", "[[:", "(?i)", "{1,", "a?", "\\", "(?<a", "[^]"])
def test_no_expression_takes_long(piece: str) -> None:
    began = time.process_time()
    fault(piece * (LONGEST // len(piece)))
    assert time.process_time() - began < 1
