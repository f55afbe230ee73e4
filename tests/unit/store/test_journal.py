# SPDX-License-Identifier: Apache-2.0
"""Several files at once: all or none, whichever step fails and wherever the writer is killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.store.directory import journal
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.store.interface import Key
from tests.unit.store.support import policy

KIND = "CiliumNetworkPolicy"
OLD = [policy("a"), policy("b")]
NEW = [policy("a", port="80"), policy("c"), policy("d")]
GONE = [Key(KIND, "shop", "b")]
STEPS = 60  # more than there are calls in a change


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    create_store(tmp_path / "store")
    made = DirectoryStore(tmp_path / "store")
    change(made, OLD, [])
    return made


def change(store: DirectoryStore, put: list, gone: list[Key]) -> list[str]:
    prepared = dict(store.prepare(each) for each in put)
    with store.transaction() as txn:
        return list(txn.change_all(prepared, gone))


def names(store: DirectoryStore) -> list[tuple[str, str]]:
    """Name and port of each policy, as whoever takes the lock next sees them."""
    with store.transaction() as txn:
        found = txn.list(KIND)
    assert not (Path(store.root) / journal.FOLDER).exists()
    return [(one.key.name, one.document["spec"]["ingress"][0]["toPorts"][0]["ports"][0]["port"]) for one in found]


BEFORE = [("a", "8080"), ("b", "8080")]
AFTER = [("a", "80"), ("c", "8080"), ("d", "8080")]


class Countdown:
    """Lets so many of the calls that change files pass, then does something else."""

    CALLS = ("open", "mkdir", "link", "replace", "unlink", "rmdir", "utime", "write")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int, then: object) -> None:
        self.left = left
        self.reached = False
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), then))

    def wrap(self, call, then):
        def counted(*arguments, **keywords):
            self.left -= 1
            if self.left == 0:
                self.reached = True
                then()
            return call(*arguments, **keywords)

        return counted


def test_what_changes_by_each(store: DirectoryStore) -> None:
    assert change(store, NEW, [*GONE, Key(KIND, "shop", "x")]) == [
        "configured",
        "created",
        "created",
        "deleted",
        "absent",
    ]
    assert change(store, NEW, []) == ["unchanged"] * 3
    assert names(store) == AFTER


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_writer_that_is_killed_leaves_all_or_none(store: DirectoryStore, step: int) -> None:
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            Countdown(patch, step, lambda: os._exit(9))
            change(store, NEW, GONE)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 9)
    assert names(store) in (BEFORE, AFTER)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_step_that_fails_leaves_none(store: DirectoryStore, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        counting = Countdown(patch, step, full)
        try:
            change(store, NEW, GONE)
            failed = False
        except CiliumpyError:
            failed = True
    assert names(store) == (BEFORE if failed else AFTER)
    assert counting.reached or step > 20


def test_nothing_of_it_is_seen_before_it_is_whole(store: DirectoryStore) -> None:
    """What is staged has a name that no watcher reads."""
    assert journal.FOLDER.startswith(".")


def test_a_users_file_in_our_place_stops_all(store: DirectoryStore) -> None:
    path = Path(store.root) / "ciliumnetworkpolicies/shop/d.yaml"
    path.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n")
    with pytest.raises(CiliumpyError, match="holds something else"):
        change(store, NEW, GONE)
    path.unlink()
    assert names(store) == BEFORE


def test_a_plan_that_cannot_be_finished_blocks_nobody(store: DirectoryStore, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(store.root) / journal.FOLDER
    folder.mkdir()
    (folder / "0").write_bytes(store.prepare(policy("e"))[1])
    (folder / "plan").write_text(
        '[["ciliumnetworkpolicies/shop/a.yaml/x", "0"], ["ciliumnetworkpolicies/shop/b.yaml", ""]]'
    )
    assert names(store) == [("a", "8080")]
    assert "an interrupted change cannot be finished" in caplog.text
