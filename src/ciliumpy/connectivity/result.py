# SPDX-License-Identifier: Apache-2.0
"""PURE: what has come of a run, as values; report.py and junit.py write them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.evidence import Table


class Failure(NamedTuple):
    """`where` is test/scenario/action; `title` adds who did it to whom. `evidence` may be empty."""

    where: str
    title: str
    faults: tuple[str, ...]
    evidence: tuple[Table, ...] = ()


class Result(NamedTuple):
    """Of one test. `skip` says why it did not run; `actions` are those that were done."""

    name: str
    about: str
    skip: str = ""
    seconds: float = 0.0
    actions: int = 0
    left_out: tuple[tuple[str, str], ...] = ()  # scenarios that did not run, with the reason
    actions_left_out: int = 0  # for lack of an address of that family
    failures: tuple[Failure, ...] = ()
    broken_off: str = ""  # why it did not come to its end


class Outcome(NamedTuple):
    """Of a run. `broken_off` says why it ended early."""

    namespace: str
    results: Sequence[Result]
    total: int  # tests that were chosen
    broken_off: str = ""

    @property
    def ran(self) -> list[Result]:
        return [result for result in self.results if not result.skip]

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if result.failures]

    @property
    def green(self) -> bool:
        return not self.failed and not self.broken_off
