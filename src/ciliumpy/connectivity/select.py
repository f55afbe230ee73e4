# SPDX-License-Identifier: Apache-2.0
"""PURE: which tests run: `--test` as cilium has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.plan import Scenario, Test

BY_USER = "skipped by user"


class Chosen(NamedTuple):
    """A test, or why it is skipped; the scenarios that run, and those that do not: (scenario, why)."""

    test: Test
    skip: str
    scenarios: tuple[Scenario, ...] = ()
    left_out: tuple[tuple[Scenario, str], ...] = ()


class Selection:
    """`--test` given any number of times, or with commas: `REGEX` takes tests, `!REGEX` leaves tests out.

    `TEST/SCENARIO` looks at the two parts apart, so `/pod-to-host` means that scenario of any test.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [part for text in texts for part in text.split(",") if part]
        self._wanted = [_pattern(part) for part in parts if not part.startswith("!")]
        self._unwanted = [_pattern(part[1:]) for part in parts if part.startswith("!")]

    def takes(self, test: str, scenario: str) -> bool:
        if any(_matches(pattern, test, scenario) for pattern in self._unwanted):
            return False
        return not self._wanted or any(_matches(pattern, test, scenario) for pattern in self._wanted)


Pattern = tuple["re.Pattern[str]", "re.Pattern[str]"]


def _pattern(text: str) -> Pattern:
    test, _, scenario = text.partition("/")
    try:
        return re.compile(test), re.compile(scenario)
    except re.error as error:
        raise CiliumpyError(f"--test {text!r} is no regular expression: {error}", exit_code=2) from None


def _matches(pattern: Pattern, test: str, scenario: str) -> bool:
    return bool(pattern[0].search(test) and pattern[1].search(scenario))


def choose(tests: Sequence[Test], selection: Selection, missing: Sequence[str] = ()) -> list[Chosen]:
    """Return every test with what of it runs. `missing` are the features that the cluster lacks."""
    return [_choose(test, selection, missing) for test in tests]


def _choose(test: Test, selection: Selection, missing: Sequence[str]) -> Chosen:
    if lacking := _lacking(test.needs, missing):
        user = not any(selection.takes(test.name, scenario.name) for scenario in test.scenarios)
        return Chosen(test, BY_USER if user else lacking)
    running, left_out = [], []
    for scenario in test.scenarios:
        why = _lacking(scenario.needs, missing) if selection.takes(test.name, scenario.name) else BY_USER
        if why:
            left_out.append((scenario, why))
        else:
            running.append(scenario)
    if not running:
        reasons = [why for _, why in left_out]
        return Chosen(test, next((why for why in reasons if why != BY_USER), BY_USER))
    return Chosen(test, "", tuple(running), tuple(left_out))


def _lacking(needs: Sequence[str], missing: Sequence[str]) -> str:
    return next((f"Feature {need} is disabled" for need in needs if need in missing), "")
