# SPDX-License-Identifier: Apache-2.0
"""What a reconciler may rely on in any target, the fake one of these tests and the real ones alike.

Subclass it and give `target` (a fixture), `rows` (at least three valid rows with different keys), `changed` (the first
of them with the same key and other content), `held` (what the target holds, as rows, sorted by key) and `disturb`
(remove one row behind the target's back and put one there that nobody asked for).
"""

from __future__ import annotations

from typing import Any


class TargetContract:
    rows: tuple[Any, ...]
    changed: Any

    def held(self, target: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def disturb(self, target: Any) -> None:
        raise NotImplementedError

    async def test_update_is_idempotent_and_replaces(self, target: Any) -> None:
        assert await target.update(self.rows) == {}
        assert await target.update(self.rows) == {}
        assert self.held(target) == self.rows
        assert await target.update([self.changed]) == {}
        assert self.held(target) == (self.changed, *self.rows[1:])

    async def test_deleting_what_is_not_there_is_success(self, target: Any) -> None:
        assert await target.delete(self.rows) == {}
        await target.update(self.rows)
        assert await target.delete(self.rows[:1]) == {}
        assert await target.delete(self.rows[:1]) == {}
        assert self.held(target) == self.rows[1:]

    async def test_prune_makes_it_equal_and_counts(self, target: Any) -> None:
        await target.update(self.rows)
        assert await target.prune(self.rows) == 0
        self.disturb(target)
        assert await target.prune(self.rows) > 0
        assert self.held(target) == self.rows
        assert await target.prune(self.rows) == 0
        assert await target.prune([]) > 0
        assert self.held(target) == ()
