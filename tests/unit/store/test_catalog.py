# SPDX-License-Identifier: Apache-2.0
"""Any history of files, good, bad, doubled and gone: what is in force follows from it, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ciliumpy.model.documents import DocumentError, dump, parse
from ciliumpy.store.catalog import Catalog
from ciliumpy.store.interface import Key, Read
from ciliumpy.store.last_good import LastGood
from ciliumpy.tables.source import POLICIES, PROBLEMS, Problem
from tests.soak import scaled
from tests.unit.store.support import policy

ORIGINS = ("/s/a.yaml", "/s/b.yaml", "/s/c.yaml")
documents = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from(["1", "2", "70000", None])),
    max_size=3,
    unique_by=lambda pair: pair[0],
)


def built(name: str, port: str | None) -> dict[str, Any]:
    """A policy; a bad one if the port is; one that nobody can name without a port."""
    document = policy(name, port=port or "1")
    if port is None:
        del document["metadata"]
    return document


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="cpt")
        self.last_good = LastGood(Path(self.folder.name))
        self.catalog = Catalog(self.last_good, "default")
        self.catalog.complete = True
        self.rows: dict[Any, Any] = {}
        self.problems: dict[Any, Problem] = {}
        self.content: dict[str, list[tuple[str, str | None]] | None] = {}

    def teardown(self) -> None:
        self.last_good.close()
        self.folder.cleanup()

    def apply(self, read: Read) -> None:
        decision = list(self.catalog.read(read))[-1]
        changes = self.catalog.settle(decision)
        for spec, row in changes.upserts:
            self.rows[spec.key(row)] = row
        for _, key in changes.deletes:
            del self.rows[key]
        for problem in changes.solved:
            del self.problems[PROBLEMS.key(problem)]
        for problem in changes.problems:
            assert PROBLEMS.key(problem) not in self.problems
            self.problems[PROBLEMS.key(problem)] = problem
        self.last_good.save(changes.remember, changes.forget)

    @rule(origin=st.sampled_from(ORIGINS), content=documents)
    def write(self, origin: str, content: list[tuple[str, str | None]]) -> None:
        before = {row.name for row in self.rows.values()}
        held = {key.name for key in self.catalog._claims.get(origin, {})}
        self.content[origin] = content
        data = dump(*(built(*pair) for pair in content)) if content else b""
        self.apply(Read(origin, tuple(parse(data))))
        after = {row.name for row in self.rows.values()}
        for name, port in content:
            if port == "70000":
                assert name not in before or name in after, "a bad version takes nothing out of force"
            elif port is not None:
                assert name in after
        if not content or any(port is None for _, port in content):
            assert before & held <= after, "what cannot be named may be any of those that were there"

    @rule(origin=st.sampled_from(ORIGINS))
    def break_(self, origin: str) -> None:
        before = dict.fromkeys(self.rows)
        self.content[origin] = None
        self.apply(Read(origin, None, DocumentError("broken", 1, 1)))
        assert before.keys() <= self.rows.keys()
        assert any(problem.origin == origin and problem.severity == "error" for problem in self.problems.values())

    @rule(origin=st.sampled_from(ORIGINS))
    def remove(self, origin: str) -> None:
        self.content.pop(origin, None)
        self.apply(Read(origin, None))
        assert all(row.origin != origin for row in self.rows.values())
        assert all(problem.origin != origin for problem in self.problems.values())

    @rule()
    def cure(self) -> None:
        """With every file good there are exactly its objects, each once, and only doubles are refused."""
        content = {
            origin: [(n, p) for n, p in (found or []) if p in ("1", "2")] for origin, found in self.content.items()
        }
        for origin, found in content.items():
            if found:
                self.write(origin, found)
            else:
                self.remove(origin)
        wanted = {name: [o for o in content if name in dict(content[o])] for name in "xyz"}
        assert {row.name for row in self.rows.values()} == {name for name, origins in wanted.items() if origins}
        assert len(self.problems) == sum(len(origins) - 1 for origins in wanted.values() if origins)
        for row in self.rows.values():
            assert not row.stale
            assert row.origin in wanted[row.name]
            assert row.rules[0].ports[0].first == int(dict(content[row.origin])[row.name])

    @invariant()
    def tables_are_what_is_in_force(self) -> None:
        claims = self.catalog._claims
        keys = {key for held in claims.values() for key in held}
        assert self.catalog.keys == keys
        assert {Key(*key) for key in self.rows} == keys
        for key, origin in self.catalog._in_force.items():
            assert self.rows[key] == claims[origin][key].row
            assert POLICIES.key(claims[origin][key].row) == key
        assert set(self.problems) == {PROBLEMS.key(p) for said in self.catalog._problems.values() for p in said}

    @invariant()
    def memory_has_every_object_in_force(self) -> None:
        for key in self.catalog.keys:
            assert self.last_good.get(key) is not None


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=scaled(60), stateful_step_count=20, deadline=None)
