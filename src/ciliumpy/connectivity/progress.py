# SPDX-License-Identifier: Apache-2.0
"""What is seen while a test runs: a dot an action, and the lines behind it where something failed, or with -v."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.evidence import Table
    from ciliumpy.connectivity.result import Failure


class Progress:
    """Writes to one stream, each piece at once. Actions may end in any order and on any thread."""

    def __init__(self, out: TextIO, *, verbose: bool = False, namespace: str = "") -> None:
        self.namespace = namespace
        self._out = out
        self._verbose = verbose
        self._lock = threading.Lock()
        self._column = 0
        self._held: list[str] = []  # of the test that runs
        self._ended = False

    def say(self, line: str) -> None:
        with self._lock:
            self._line(line)

    def running(self, tests: int) -> None:
        self.say(f"🏃[{self.namespace}] Running {tests} tests ...")

    def test(self, name: str, number: int, of: int) -> None:
        with self._lock:
            self._held.clear()
            self._line(f"[=] [{self.namespace}] Test [{name}] [{number}/{of}]")

    def skip(self, name: str, number: int, of: int, why: str) -> None:
        self.say(f"[=] [{self.namespace}] Skipping test [{name}] [{number}/{of}] ({why})")

    def scenario(self, where: str) -> None:
        self._detail(f"  [-] Scenario [{where}]")

    def skip_scenario(self, where: str, why: str) -> None:
        self._detail(f"  [-] Skipping Scenario [{where}] ({why})")

    def skip_action(self, where: str, why: str) -> None:
        self._detail(f"  [.] Skipping Action [{where}] ({why})")

    def change(self, said: str) -> None:
        self._detail(f"  [-] {said}")

    def action(self, title: str, failure: Failure | None) -> None:
        with self._lock:
            if self._ended:
                return
            self._held.append(f"  [.] Action [{title}]")
            if failure is not None:
                self._held += [f"  ❌ {fault}" for fault in failure.faults]
                self._show(failure.evidence)
            if self._verbose:
                self._flush()
            else:
                self._out.write("." if failure is None else "F")
                self._column += 1
                self._out.flush()

    def evidence(self, where: str, tables: Sequence[Table]) -> None:
        """Show what was found out about an action that has failed."""
        with self._lock:
            self._held.append(f"  📄 About [{where}]:")
            self._show(tables)
            if self._verbose:
                self._flush()

    def failed(self) -> None:
        """Show what was held back of the test that has just ended."""
        with self._lock:
            self._flush()

    def end(self) -> None:
        """End the line of dots. Actions that still run are cut off: what comes of them says nothing."""
        with self._lock:
            self._ended = True
            if self._column:
                self._line("")

    def _show(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self._held.append(f"  📄 {table.title}:")
            self._held += [f"     {line}" for line in table.lines]

    def _detail(self, line: str) -> None:
        with self._lock:
            self._held.append(line)
            if self._verbose:
                self._flush()

    def _flush(self) -> None:
        held, self._held = self._held, []
        for line in held:
            self._line(line)

    def _line(self, line: str) -> None:
        if self._column:
            self._out.write("\n")
            self._column = 0
        self._out.write(line + "\n" if line else "")
        self._out.flush()
