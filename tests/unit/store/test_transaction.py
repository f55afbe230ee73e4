# SPDX-License-Identifier: Apache-2.0
"""Changing the store: exclusive, in one step, never over a user's file, and safe between processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import parse
from ciliumpy.store.directory import files
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.store.directory.transaction import locked
from ciliumpy.store.interface import Key, StoreConflictError
from tests.unit.store.support import identity, node, policy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_store(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def test_create_read_update_delete(store: DirectoryStore, root: Path) -> None:
    with store.transaction() as txn:
        created = txn.create(policy("a"))
        assert created.key == Key("CiliumNetworkPolicy", "shop", "a")
        assert txn.get("CiliumNetworkPolicy", "a", "shop") == created
        with pytest.raises(StoreConflictError, match="is in the store already"):
            txn.create(policy("a"))
        with pytest.raises(StoreConflictError, match="is not in the store"):
            txn.update(policy("b"))
        updated = txn.update(policy("a", port="80"))
        assert updated.version != created.version
        assert txn.put(policy("b")).key.name == "b"
        txn.create(node("n1"))
        assert [s.key.name for s in txn.list("CiliumNetworkPolicy")] == ["a", "b"]
        assert txn.names("CiliumNetworkPolicy") == {("shop", "a"), ("shop", "b")}
        assert txn.names("CiliumNode") == {("", "n1")}
        assert txn.delete("CiliumNetworkPolicy", "b", "shop")
        assert not txn.delete("CiliumNetworkPolicy", "b", "shop")
        assert txn.get("CiliumNetworkPolicy", "b", "shop") is None
    path = root / "ciliumnetworkpolicies" / "shop" / "a.yaml"
    assert parse(path.read_bytes())[0].value == policy("a", port="80")
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.yaml"]


def test_compare_and_swap(store: DirectoryStore) -> None:
    assert store.create_if_absent(policy("a"))
    assert not store.create_if_absent(policy("a", port="1"))
    with store.transaction() as txn:
        version = txn.get("CiliumNetworkPolicy", "a", "shop").version
    assert store.compare_and_swap(policy("a", port="2"), version)
    assert not store.compare_and_swap(policy("a", port="3"), version)
    with store.transaction() as txn:
        assert txn.get("CiliumNetworkPolicy", "a", "shop").document == policy("a", port="2")
    assert store.delete("CiliumNetworkPolicy", "a", "shop")
    assert not store.compare_and_swap(policy("a"), version)


def test_objects_that_users_wrote_are_listed_and_kept(store: DirectoryStore, root: Path) -> None:
    mine = root / "ciliumnetworkpolicies" / "shop" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: other, namespace: shop}\n")
    (root / "all.yaml").write_text("apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: n1}\n---\n[]\n")
    (root / "more.json").write_text('{"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "n2"}}')
    (root / "bad.yaml").write_text("a: [\n")
    before = mine.read_bytes()
    with store.transaction() as txn:
        assert [s.key.name for s in txn.list("CiliumNode")] == ["n2"], "a file with a bad document is left out"
        assert [s.key.name for s in txn.list("CiliumNetworkPolicy")] == ["other"]
        for change in (txn.put, txn.update):
            with pytest.raises(CiliumpyError, match="holds something else"):
                change(policy("mine"))
        with pytest.raises(CiliumpyError, match="holds something else"):
            txn.delete("CiliumNetworkPolicy", "mine", "shop")
        with pytest.raises(StoreConflictError):
            txn.create(policy("mine"))
    assert mine.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "", ".", "..", "A", "a_b", "-a", "a" * 254, "a\0b", "a\n", ".hidden", 5, None]
)
def test_names_never_become_other_paths(store: DirectoryStore, root: Path, name: object) -> None:
    for document in (
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": name or "/"}},
    ):
        with store.transaction() as txn, pytest.raises(CiliumpyError):
            txn.create(document)
    with store.transaction() as txn, pytest.raises(CiliumpyError):
        txn.get("Pod", "a", "../x")
    assert sorted(p.name for p in root.iterdir()) == [".lock", "cluster.yaml"]


def test_only_known_kinds_and_versions(store: DirectoryStore) -> None:
    with store.transaction() as txn:
        with pytest.raises(CiliumpyError, match="kind Secret cannot be stored"):
            txn.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})
        with pytest.raises(CiliumpyError, match=r"apiVersion: must be cilium\.io/v2 for a CiliumNode, not v1"):
            txn.create({"apiVersion": "v1", "kind": "CiliumNode", "metadata": {"name": "a"}})
        with pytest.raises(CiliumpyError, match="has no namespace"):
            txn.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}})


def test_a_namespace_left_out_is_default(store: DirectoryStore, root: Path) -> None:
    with store.transaction() as txn:
        txn.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})
        assert txn.get("Pod", "a") == txn.get("Pod", "a", "default")
    assert (root / "pods" / "default" / "a.yaml").exists()


def test_what_is_no_store_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(CiliumpyError, match="is missing"), DirectoryStore(tmp_path / "x").transaction():
        pass
    (root / "cluster.yaml").unlink()
    with (
        pytest.raises(CiliumpyError, match=r"is no store: cluster\.yaml is missing"),
        DirectoryStore(root).transaction(),
    ):
        pass
    with pytest.raises(CiliumpyError):
        DirectoryStore(root).check()


def test_a_disk_that_refuses_is_explained_and_leaves_nothing(store: DirectoryStore, root: Path) -> None:
    (root / "ciliumnodes").write_text("in the way")
    with pytest.raises(CiliumpyError, match="cannot change the store"), store.transaction() as txn:
        txn.create(node("a"))
    (root / "ciliumnodes").unlink()
    with store.transaction() as txn:
        txn.create(node("a"))


def test_a_rename_that_fails_leaves_no_temporary_file(root: Path) -> None:
    (root / "a.yaml").mkdir()
    for replace in (True, False):
        with pytest.raises(OSError):
            files.write(str(root / "a.yaml"), b"x", replace=replace)
    assert [p.name for p in root.iterdir() if p.name.startswith(".")] == []


def test_a_file_system_without_that_rename(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes
    import errno

    from ciliumpy.store.directory import kernel

    class Old:
        def renameat2(self, *_args) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(kernel, "_libc", Old)
    files.write(str(root / "a.yaml"), b"one", replace=False)
    with pytest.raises(FileExistsError):
        files.write(str(root / "a.yaml"), b"two", replace=False)
    assert (root / "a.yaml").read_bytes() == b"one"
    assert [p.name for p in root.iterdir() if p.name.startswith(".")] == []


def test_the_lock_is_exclusive_and_bounded(root: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with DirectoryStore(root).transaction():
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert inside.wait(10)
        with pytest.raises(CiliumpyError, match="was held by another process"), locked(str(root), timeout_s=0.05):
            pass
    finally:
        leave.set()
        holder.join()
    with locked(str(root), timeout_s=0.05):
        pass


def test_a_lock_file_that_was_removed_is_no_lock(root: Path) -> None:
    with DirectoryStore(root).transaction():
        (root / ".lock").unlink()
        with locked(str(root), timeout_s=1):
            pass
    with locked(str(root), timeout_s=1):
        assert (root / ".lock").exists()


ALLOCATE = """
import sys
from ciliumpy.store.directory.store import DirectoryStore
store = DirectoryStore(sys.argv[1])
known = {}
for n in range(40):
    labels = f"k8s:app=a{n}"
    with store.transaction() as txn:
        for _, name in txn.names("CiliumIdentity"):
            if name not in known:
                known[name] = txn.get("CiliumIdentity", name).document["security-labels"]
        if {"k8s:app": f"a{n}"} not in known.values():
            number = max(map(int, known), default=255) + 1
            txn.create({"apiVersion": "cilium.io/v2", "kind": "CiliumIdentity", "metadata": {"name": str(number)},
                        "security-labels": {"k8s:app": f"a{n}"}})
"""


def test_processes_that_allocate_at_once_never_give_a_number_or_a_label_set_twice(root: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", ALLOCATE, str(root)]) for _ in range(3)]
    assert [process.wait(25) for process in running] == [0, 0, 0]
    with DirectoryStore(root).transaction() as txn:
        found = txn.list("CiliumIdentity")
    assert sorted(int(s.key.name) for s in found) == list(range(256, 296))
    assert len({s.document["security-labels"]["k8s:app"] for s in found}) == 40


CRASH = """
import os, sys
from ciliumpy.store.directory import files
from ciliumpy.store.directory.store import DirectoryStore
files.rename_new = lambda source, target: os._exit(9)
with DirectoryStore(sys.argv[1]).transaction() as txn:
    txn.create({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "n1"}})
"""


def test_a_crash_between_temporary_file_and_rename(root: Path) -> None:
    assert subprocess.run([sys.executable, "-c", CRASH, str(root)], check=False).returncode == 9
    left = list((root / "ciliumnodes").iterdir())
    assert [p.name.startswith(".n1.yaml.") for p in left] == [True]
    with DirectoryStore(root).transaction() as txn:
        assert txn.get("CiliumNode", "n1") is None
        assert txn.names("CiliumNode") == set()
        assert txn.list("CiliumNode") == []
        txn.create(node("n1"))


def test_making_a_store_twice_changes_nothing(tmp_path: Path) -> None:
    create_store(tmp_path, "one")
    create_store(tmp_path, "two")
    assert parse((tmp_path / "cluster.yaml").read_bytes())[0].value["metadata"] == {"name": "one"}


def test_identities_have_numbers_for_names(store: DirectoryStore) -> None:
    with store.transaction() as txn:
        txn.create(identity(256, "k8s:app=a"))
        assert txn.names("CiliumIdentity") == {("", "256")}
    assert [path.name for path in (Path(store.root) / "ciliumidentities").iterdir()] == ["256.yaml"]
