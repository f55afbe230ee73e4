# SPDX-License-Identifier: Apache-2.0
"""Every endpoint with an identity is an object in the store; others' objects are never touched."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ciliumpy.endpoints.publish import PublishTarget, endpoint_object
from ciliumpy.store.directory import transaction
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.tables.endpoints import Endpoint

ROW = Endpoint(5, 1, "shop", "api", "c", "eth0", "lxc", 9, 2, "", "", "10.0.0.5", "fd00::5", ("k8s:app=api",), 300)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    create_store(tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


def published(store: DirectoryStore) -> dict[str, int]:
    with store.transaction() as txn:
        return {f"{s.key.namespace}/{s.key.name}": s.document["status"]["id"] for s in txn.list("CiliumEndpoint")}


async def test_it_follows_the_rows(store: DirectoryStore) -> None:
    target = PublishTarget(store, "n1", "172.30.0.1")
    without = msgspec.structs.replace(ROW, id=6, pod="new", identity=0)
    assert await target.update([ROW, without]) == {}
    assert published(store) == {"shop/api": 5}
    await target.delete([ROW])
    assert published(store) == {}


async def test_a_pod_that_came_again_is_not_deleted_with_its_former_endpoint(store: DirectoryStore) -> None:
    target = PublishTarget(store, "n1", "172.30.0.1")
    other = PublishTarget(store, "n2", "172.30.0.2")
    await target.update([msgspec.structs.replace(ROW, id=9)])
    await target.delete([ROW])
    assert published(store) == {"shop/api": 9}
    await other.update([msgspec.structs.replace(ROW, id=9)])
    await target.delete([msgspec.structs.replace(ROW, id=9)])
    assert published(store) == {"shop/api": 9}


async def test_prune_repairs_its_own_and_leaves_the_others(store: DirectoryStore) -> None:
    target = PublishTarget(store, "n1", "172.30.0.1")
    stale = msgspec.structs.replace(ROW, id=7, pod="gone")
    foreign = msgspec.structs.replace(ROW, id=8, pod="away")
    with store.transaction() as txn:
        txn.put(endpoint_object(stale, "n1", "172.30.0.1"))
        txn.put(endpoint_object(foreign, "n2", "172.30.0.2"))
    assert await target.prune([ROW]) == 2
    assert published(store) == {"shop/api": 5, "shop/away": 8}
    assert await target.prune([ROW]) == 0


async def test_prune_reads_no_files_of_users_while_it_has_the_lock(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be large, and every node's agent would wait for seconds."""
    read: list[str] = []
    documents = transaction.parse
    monkeypatch.setattr(transaction, "parse", lambda data: read.append(data.decode()) or documents(data))
    (tmp_path / "store" / "mine.yaml").write_text("kind: Namespace\n")
    target = PublishTarget(store, "n1", "172.30.0.1")
    await target.update([ROW])

    assert await target.prune([ROW]) == 0

    assert read
    assert not [text for text in read if "Namespace" in text]
