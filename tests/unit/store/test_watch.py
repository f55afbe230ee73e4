# SPDX-License-Identifier: Apache-2.0
"""The watch against everything that happens to a folder. Every wait is for an event; only absence needs time."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ciliumpy.store.directory import files
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.store.directory.watch import DELETE_AFTER_S
from tests.unit.store.support import Follower, following, node, policy

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_store(tmp_path / "store")
    return tmp_path / "store"


async def marked(follower: Follower, name: str = "mark.yaml") -> None:
    """Write a file and wait until it is told: everything that happened before has been told then, too."""
    (follower.root / name).write_text("kind: Mark\n")
    await follower.until(lambda: name in follower.files)
    (follower.root / name).unlink()
    await follower.until(lambda: name not in follower.files)


async def test_everything_once_and_then_every_change(root: Path) -> None:
    (root / "a.yaml").write_text("n: 1\n---\nn: 2\n")
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "b.json").write_text('{"n": 3}')
    store = DirectoryStore(root)
    store.create_if_absent(policy("p"))
    async with following(root) as told:
        own = "ciliumnetworkpolicies/shop/p.yaml"
        assert told.files == {"a.yaml": [{"n": 1}, {"n": 2}], "deep/er/b.json": [{"n": 3}], own: [policy("p")]}
        await asyncio.to_thread(store.create_if_absent, node("n1"))
        await told.until(lambda: "ciliumnodes/n1.yaml" in told.files)
        (root / "a.yaml").write_text("n: 4\n")
        await told.until(lambda: told.files["a.yaml"] == [{"n": 4}])
        (root / "new").mkdir()
        (root / "new" / "c.yml").write_text("n: 5\n")
        await told.until(lambda: "new/c.yml" in told.files)
        assert told.gone == []


async def test_what_does_not_count(root: Path) -> None:
    async with following(root) as told:
        for name in (".hidden.yaml", "notes.txt", "a.yaml~", ".a.yaml.swp"):
            (root / name).write_text("n: 1\n")
        (root / ".git").mkdir()
        (root / ".git" / "x.yaml").write_text("n: 1\n")
        await marked(told)
        assert set(told.reads) == {"mark.yaml"}


async def test_half_a_file_is_not_read(root: Path) -> None:
    async with following(root) as told:
        with (root / "slow.yaml").open("w") as file:
            file.write("n: [1, ")
            file.flush()
            await marked(told)
            await asyncio.sleep(2 * DELETE_AFTER_S)
            assert "slow.yaml" not in told.reads
            file.write("2]\n")
        await told.until(lambda: "slow.yaml" in told.files)
        assert told.files["slow.yaml"] == [{"n": [1, 2]}]
        assert told.faults == {}


async def test_half_a_file_that_was_there_before(root: Path) -> None:
    with (root / "slow.yaml").open("w") as file:
        file.write("n: 1\n")
        file.flush()
        async with following(root, synced=False) as told:
            file.write("m: 2\n")
            file.close()
            await told.until(lambda: told.synced)
            assert told.files["slow.yaml"] == [{"n": 1, "m": 2}]


async def test_a_fault_is_told_and_its_cure(root: Path) -> None:
    async with following(root) as told:
        (root / "a.yaml").write_text("a: [\n")
        await told.until(lambda: "a.yaml" in told.faults)
        assert told.state.state == "ok", "one bad file is no bad store"
        (root / "a.yaml").write_text("a: []\n")
        await told.until(lambda: "a.yaml" in told.files)
        assert told.faults == {}


async def test_a_deletion_takes_its_time(root: Path) -> None:
    (root / "a.yaml").write_text("n: 1\n")
    async with following(root) as told:
        began = time.monotonic()
        (root / "a.yaml").unlink()
        await told.until(lambda: told.gone == ["a.yaml"])
        assert time.monotonic() - began >= DELETE_AFTER_S


async def test_editors_that_save_by_renaming_delete_nothing(root: Path) -> None:
    path = root / "a.yaml"
    path.write_text("n: 1\n")
    async with following(root) as told:
        path.rename(root / "a.yaml~")  # vim with backup
        path.write_text("n: 2\n")
        (root / "a.yaml~").unlink()
        await told.until(lambda: told.files["a.yaml"] == [{"n": 2}])
        (root / ".a.yaml.new").write_text("n: 3\n")  # most others
        (root / ".a.yaml.new").replace(path)
        await told.until(lambda: told.files["a.yaml"] == [{"n": 3}])
        path.unlink()  # and the rude ones
        path.write_text("n: 4\n")
        await told.until(lambda: told.files["a.yaml"] == [{"n": 4}])
        await asyncio.sleep(2 * DELETE_AFTER_S)
        await marked(told)
        assert told.gone == ["mark.yaml"]


async def test_links_are_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("n: 1\n")
    async with following(root) as told:
        os.link(tmp_path / "other.yaml", root / "hard.yaml")
        (root / "soft.yaml").symlink_to(tmp_path / "other.yaml")
        await told.until(lambda: {"hard.yaml", "soft.yaml"} <= told.files.keys())


async def test_a_moved_folder_moves_its_objects(root: Path) -> None:
    (root / "one").mkdir()
    (root / "one" / "a.yaml").write_text("n: 1\n")
    async with following(root) as told:
        (root / "one").rename(root / "two")
        await told.until(lambda: told.gone == ["one/a.yaml"])
        assert told.files == {"two/a.yaml": [{"n": 1}]}
        (root / "two" / "b.yaml").write_text("n: 2\n")
        await told.until(lambda: "two/b.yaml" in told.files)
        shutil.rmtree(root / "two")
        await told.until(lambda: not told.files)
        assert told.state.state == "ok"


@pytest.mark.parametrize("how", ["moved", "removed", "unmarked", "moved parent"])
async def test_a_store_that_is_lost_is_an_error_and_never_empty(tmp_path: Path, how: str) -> None:
    root = tmp_path / "parent" / "store"
    create_store(root)
    (root / "a.yaml").write_text("n: 1\n")
    (root / "b.yaml").write_text("n: 1\n")
    async with following(root) as told:
        if how == "moved":
            root.rename(tmp_path / "away")
        elif how == "moved parent":
            root.parent.rename(tmp_path / "away")
        elif how == "removed":
            shutil.rmtree(root)
        else:
            (root / files.MARKER).unlink()
            (root / "a.yaml").unlink()
        await told.until(lambda: told.state.state == "error")
        assert str(root) in told.state.message
        await asyncio.sleep(2 * DELETE_AFTER_S)
        assert told.gone == []
        assert set(told.files) == {"a.yaml", "b.yaml"}

        # Back: what changed meanwhile is told, and what is really gone.
        if how == "moved":
            (tmp_path / "away" / "c.yaml").write_text("n: 3\n")
            (tmp_path / "away" / "b.yaml").write_text("n: 2\n")
            (tmp_path / "away").rename(root)
        elif how == "moved parent":
            (tmp_path / "away" / "store" / "c.yaml").write_text("n: 3\n")
            (tmp_path / "away" / "store" / "b.yaml").write_text("n: 2\n")
            (tmp_path / "away").rename(root.parent)
        else:
            root.mkdir(exist_ok=True)
            for name, n in (("b", 2), ("c", 3)):
                (root / f"{name}.yaml").write_text(f"n: {n}\n")
            create_store(root)
        await told.until(lambda: told.state.state == "ok")
        await told.until(lambda: told.files.get("b.yaml") == [{"n": 2}] and "c.yaml" in told.files)
        if how in ("removed", "unmarked"):
            await told.until(lambda: told.gone == ["a.yaml"])
        (root / "d.yaml").write_text("n: 4\n")
        await told.until(lambda: "d.yaml" in told.files)


def swap(store: Path, away: Path, other: Path) -> None:
    store.rename(away)
    other.rename(store)


async def test_another_store_in_its_place_is_compared(root: Path, tmp_path: Path) -> None:
    (root / "a.yaml").write_text("n: 1\n")
    create_store(tmp_path / "new")
    (tmp_path / "new" / "b.yaml").write_text("n: 2\n")
    async with following(root) as told:
        swap(root, tmp_path / "old", tmp_path / "new")
        await told.until(lambda: "b.yaml" in told.files and told.gone == ["a.yaml"])


async def test_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    async with following(tmp_path / "store", synced=False) as told:
        await told.until(lambda: told.state.state == "error")
        assert told.state.message == f"the store {tmp_path}/store is missing"
        (tmp_path / "store").mkdir()
        await told.until(lambda: "no store" in told.state.message)
        assert not told.synced
        create_store(tmp_path / "store")
        await told.until(lambda: told.synced)


async def test_events_that_were_lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ciliumpy.store.directory import kernel

    (root / "a.yaml").write_text("n: 1\n")
    async with following(root) as told:
        read = kernel.Inotify.read

        def overflow(self):
            read(self)
            monkeypatch.setattr(kernel.Inotify, "read", read)
            return [kernel.Event(-1, kernel.OVERFLOW, "")]

        monkeypatch.setattr(kernel.Inotify, "read", overflow)
        (root / "a.yaml").unlink()
        (root / "b.yaml").write_text("n: 2\n")
        await told.until(lambda: told.files == {"b.yaml": [{"n": 2}]})


async def test_what_is_no_file_does_not_block(root: Path) -> None:
    os.mkfifo(root / "pipe.yaml")
    (root / "loop.yaml").symlink_to(root / "loop.yaml")
    async with following(root) as told:
        assert told.faults["pipe.yaml"] == "is not a file"
        assert "cannot be read" in told.faults["loop.yaml"]
        (root / "pipe.yaml").unlink()
        await told.until(lambda: "pipe.yaml" not in told.faults)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of a user who is not root: for root nothing is unreadable."""
    folder = Path(tempfile.mkdtemp(prefix="cpt"))
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


async def test_what_may_not_be_read_is_a_fault_and_comes_back() -> None:
    with as_nobody() as folder:
        root = folder / "store"
        create_store(root)
        (root / "sub").mkdir()
        (root / "sub" / "a.yaml").write_text("n: 1\n")
        (root / "b.yaml").write_text("n: 1\n")
        async with following(root) as told:
            (root / "sub").chmod(0)
            (root / "b.yaml").chmod(0)
            (root / "moved").mkdir()
            (root / "moved").rmdir()
            root.rename(folder / "away")  # makes it look at everything again
            await told.until(lambda: told.state.state == "error")
            (folder / "away").rename(root)
            await told.until(lambda: "sub" in told.faults)
            await asyncio.sleep(2 * DELETE_AFTER_S)
            assert told.gone == []
            assert set(told.files) == {"sub/a.yaml", "b.yaml"}
            (root / "sub").chmod(0o755)
            (root / "b.yaml").chmod(0o644)
            (root / "sub" / "c.yaml").write_text("n: 3\n")
            await told.until(lambda: "sub/c.yaml" in told.files)
            await told.until(lambda: not told.faults)
            assert "sub/a.yaml" not in told.gone
            root.chmod(0)
            await told.until(lambda: told.state.state == "error")
            assert "Permission denied" in told.state.message
            root.chmod(0o755)
            await told.until(lambda: told.state.state == "ok")


async def test_many_files_leave_the_loop_to_others(root: Path) -> None:
    (root / "many").mkdir()
    for n in range(2000):
        (root / "many" / f"{n}.yaml").write_text(f"kind: A\nmetadata: {{name: n{n}, labels: {{a: b}}}}\n")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counting = asyncio.get_running_loop().create_task(count())
    async with following(root) as told:
        assert len(told.files) == 2000
        assert turns > 10
    counting.cancel()
