# SPDX-License-Identifier: Apache-2.0
"""Whether a text is a regular expression as proxies know them: RE2's, which promises linear time.

Python's own engine is asked, after what only one of the two knows has been refused or put into other words.
"""

from __future__ import annotations

import re
import warnings

LONGEST = 4096
_MOST_REPEATS = 1000
_DEEPEST = 100

_ONLY_PYTHON = (
    (re.compile(r"\(\?<?[=!]"), "looks ahead or behind"),
    (re.compile(r"\(\?>"), "has an atomic group"),
    (re.compile(r"\(\?\("), "has a condition"),
    (re.compile(r"\(\?#"), "has a comment"),
    (re.compile(r"\(\?P="), "refers back to a group"),
    (re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\+"), "repeats a repetition"),
)
# What RE2 knows and Python does not: each is replaced by something that is valid at the same place.
_IN_CLASS = re.compile(r"\[:\^?[a-z]+:\]")
_QUOTED = re.compile(r"\\Q.*?(?:\\E|\Z)", re.DOTALL)
_ESCAPES = re.compile(r"\\(?:[pP](?:\{\^?\w+\}|[A-Z])|x\{[0-9a-fA-F]{1,6}\}|[zCaA])")
_FLAGS = re.compile(r"\(\?[imsU]*(?:-[imsU]+)?(:|\))")
_NAMED = re.compile(r"\(\?P?<(\w+)>")
_REPEAT = re.compile(r"\{(\d*),?(\d*)\}")


def fault(text: str) -> str | None:
    """What is wrong with the expression; None if nothing is."""
    if len(text) > LONGEST:
        return f"has {len(text)} characters, at most {LONGEST} are allowed"
    plain = _QUOTED.sub("q", text)
    bare = _without_classes(plain)
    for pattern, what in _ONLY_PYTHON:
        if pattern.search(bare):
            return f"{what}, which RE2 does not know"
    if re.search(r"\\[1-9]", plain):
        return "refers back to a group, which RE2 does not know"
    if any(int(number) > _MOST_REPEATS for pair in _REPEAT.findall(bare) for number in pair if number):
        return f"repeats more than {_MOST_REPEATS} times"
    if bare.count("(") > _DEEPEST:
        return f"has more than {_DEEPEST} groups"
    named = iter(range(len(plain)))
    plain = _IN_CLASS.sub("x", _ESCAPES.sub(r"\\w", plain))
    plain = _FLAGS.sub(lambda match: "(?:" if match[1] == ":" else "", plain)
    plain = _NAMED.sub(lambda _: f"(?P<n{next(named)}>", plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(plain)
        except (re.error, OverflowError, RecursionError) as error:
            return str(getattr(error, "msg", "") or "is too deep")
    return None


def _without_classes(text: str) -> str:
    """The expression without escapes and character classes, in which nothing has a meaning."""
    text = re.sub(r"\\.", "e", text, flags=re.DOTALL)
    return re.sub(r"\[\^?\]?[^\]]*\]", "c", text)
