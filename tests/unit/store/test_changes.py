# SPDX-License-Identifier: Apache-2.0
"""What an agent puts into the store for its users, and takes out: judged whole first."""

from __future__ import annotations

from pathlib import Path

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import MOST_BYTES, parse
from ciliumpy.model.options import PolicyOptions
from ciliumpy.store.changes import Changes, RefusedError
from ciliumpy.store.decode import version_of
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.store.interface import Key
from tests.unit.store.support import policy


def written(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name not in ("cluster.yaml", ".lock")]


KIND = "CiliumNetworkPolicy"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_store(tmp_path / "store")
    return tmp_path / "store"


def changes(root: Path, where: dict[Key, list[tuple[str, int]]] | None = None) -> Changes:
    known = where or {}
    return Changes(DirectoryStore(root), lambda key: known.get(key, []), PolicyOptions())


async def refusal(work: object) -> list[tuple[int, str, str]]:
    with pytest.raises(RefusedError) as error:
        await work
    return [
        (fault.number, ".".join(map(str, fault.path)), fault.message.partition(":")[0]) for fault in error.value.faults
    ]


async def test_every_fault_of_every_object_is_named_and_nothing_written(root: Path) -> None:
    bad = policy("bad", port="x y") | {"spec": {**policy("x")["spec"], "extra": 1}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    given = [policy("a"), bad, pod, policy("a"), 3, policy("old") | {"apiVersion": "cilium.io/v1"}]
    assert [fault[:2] for fault in await refusal(changes(root).write(given))] == [
        (1, "spec.extra"),
        (2, "kind"),
        (3, ""),
        (4, ""),
        (5, "apiVersion"),
    ]
    assert written(root) == []


async def test_version_is_that_of_the_row_which_an_agent_reads(root: Path) -> None:
    plain = policy("a")
    del plain["metadata"]["namespace"]
    (done,) = await changes(root).write([plain])
    assert (done.key, done.change) == (Key(KIND, "default", "a"), "created")
    (read,) = parse((root / "ciliumnetworkpolicies/default/a.yaml").read_bytes())
    assert done.version == version_of(read.value) != version_of(plain)


async def test_an_object_that_no_agent_would_read_is_not_written(root: Path) -> None:
    huge = policy("a")
    huge["metadata"]["annotations"] = {"x": "y" * MOST_BYTES}
    with pytest.raises(CiliumpyError, match="is larger than 1 MiB"):
        await changes(root).write([policy("b"), huge])
    assert written(root) == []


async def test_of_two_files_that_hold_an_object_ours_may_go(root: Path) -> None:
    key = Key(KIND, "shop", "a")
    ours = str(root / "ciliumnetworkpolicies/shop/a.yaml")
    await changes(root).write([policy("a")])
    both = changes(root, {key: [("/mine.yaml", 3), (ours, 1)]})
    assert await refusal(both.write([policy("a", port="80")])) == [(0, "", "is in /mine.yaml")]
    assert [done.change for done in await both.delete([key, key])] == ["deleted"]
    theirs = changes(root, {key: [("/mine.yaml", 3)]})
    assert await refusal(theirs.delete([key])) == [(0, "", "is in /mine.yaml")]


@pytest.mark.parametrize("kind", ["CiliumIdentity", "CiliumNode", "Pod"])
async def test_what_agents_and_others_write_is_not_taken_out_by_users(root: Path, kind: str) -> None:
    version = {"Pod": "v1"}.get(kind, "cilium.io/v2")
    DirectoryStore(root).create_if_absent({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}})
    before = written(root)
    await changes(root).write([policy("p")])
    namespace = "default" if kind == "Pod" else ""
    keys = [Key(KIND, "shop", "p"), Key(kind, namespace, "a"), Key("Nothing", "", "a")]
    assert [fault[:2] for fault in await refusal(changes(root).delete(keys))] == [(1, "kind"), (2, "kind")]
    assert set(written(root)) > set(before), "nor is anything else that was named with it"
