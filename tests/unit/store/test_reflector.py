# SPDX-License-Identifier: Apache-2.0
"""From files to rows in force: bad ones, doubles, restarts, a store that goes away; all through the real folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import dump
from ciliumpy.store.directory.store import create_store
from ciliumpy.store.interface import Key
from ciliumpy.store.last_good import LastGood
from ciliumpy.tables import source
from tests.unit.store.support import agent, identity, node, policy

if TYPE_CHECKING:
    from collections.abc import Sized


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_store(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def write(path: Path, *documents: dict) -> None:
    path.write_bytes(dump(*documents))


GOOD = dump(policy("a")).decode()
BAD = {
    "syntax": (GOOD + "  x: [\n", "", "did not find expected", ""),
    "port": (GOOD.replace("8080", "70000"), "spec.ingress[0].toPorts[0].ports[0].port", "", "a"),
    "unknown field": (GOOD + "  egres: []\n", "spec.egres", "unknown field, did you mean egress?", "a"),
    "duplicate key": (GOOD + "kind: Pod\n", "", "the key kind stands here twice, first in line 2", ""),
    "no name": (GOOD.replace("name: a", "nome: a"), "metadata.name", "is missing", ""),
    "bomb": ("a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ), "", "with all aliases written out", ""),
    "half a surrogate pair": ('{"kind": "Pod", "metadata": {"labels": {"a": "\\ud800"}}}', "", "invalid Unicode", ""),
    "emptied": ("", "", "holds no object any more", ""),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
async def test_the_last_good_version_stays_in_force_over_restarts(root: Path, state: Path, how: str) -> None:
    text, field, message, subject = BAD[how]
    path = root / "a.yaml"
    path.write_text(GOOD)
    async with agent(root, state) as running:
        (good,) = running.policies.all()
        assert running.problems.all() == []
        path.write_text(text)
        await running.until(lambda: bool(running.errors()))
        (problem,) = running.errors()
        assert problem.origin == str(path)
        assert problem.field == field
        assert message in problem.message
        assert problem.message.endswith("its last good version stays in force")
        assert problem.object == (f"CiliumNetworkPolicy/shop/{subject}" if subject else "")
        assert problem.line > 0 or how == "emptied"
        assert [(p.rules, p.stale) for p in running.policies.all()] == [(good.rules, True)]
    for _ in range(2):
        async with agent(root, state) as running:
            assert [(p.rules, p.stale) for p in running.policies.all()] == [(good.rules, True)]
            assert running.errors() == [problem]
    async with agent(root, state) as running:
        path.write_text(GOOD)
        await running.until(lambda: running.names() == {"a": False})
        assert running.problems.all() == []
        path.unlink()
        await running.until(lambda: running.names() == {})
        await running.until(lambda: running.last_good.origins() == [])


@pytest.mark.parametrize("how", [how for how in BAD if how != "emptied"])
async def test_where_there_was_no_good_version_it_has_no_effect(root: Path, state: Path, how: str) -> None:
    (root / "a.yaml").write_text(BAD[how][0])
    async with agent(root, state) as running:
        assert running.policies.all() == []
        (problem,) = running.errors()
        assert problem.message.endswith("it has no effect")
        assert problem.severity == "error"


@pytest.mark.parametrize("content", [GOOD, "{"], ids=["good", "bad"])
async def test_a_file_whose_name_is_no_text_is_refused_by_a_name_that_can_be_said(
    root: Path, state: Path, content: str
) -> None:
    path = root / os.fsdecode(b"\xff.yaml")
    path.write_text(content)
    async with agent(root, state) as running:
        (problem,) = running.errors()
        assert problem.origin == f"{root}/\\xff.yaml"
        assert problem.message == "has a name that is not UTF-8 text: rename it: it has no effect"
        path.rename(root / "a.yaml")
        expected = ([], {"a": False}) if content == GOOD else ([f"{root}/a.yaml"], {})
        await running.until(lambda: ([p.origin for p in running.errors()], running.names()) == expected)
        assert {job.restarts for job in running.health.all()} == {0}


async def test_a_field_is_named_by_line(root: Path, state: Path) -> None:
    (root / "a.yaml").write_text("---\n" + BAD["port"][0])
    async with agent(root, state) as running:
        (problem,) = running.errors()
        line = (root / "a.yaml").read_text().splitlines()[problem.line - 1]
        assert "port: " in line
        assert "70000" in problem.message


async def test_of_good_versions_the_last_is_remembered(root: Path, state: Path) -> None:
    path = root / "a.yaml"
    path.write_text(GOOD)
    async with agent(root, state) as running:
        path.write_text(GOOD.replace("8080", "8081"))
        await running.until(lambda: "8081" in str(running.last_good.get(Key("CiliumNetworkPolicy", "shop", "a"))))
    path.write_text("{")
    async with agent(root, state) as running:
        assert [p.rules[0].ports[0].first for p in running.policies.all()] == [8081]


async def test_one_bad_document_spares_the_others(root: Path, state: Path) -> None:
    path = root / "all.yaml"
    write(path, policy("a"), policy("b"), policy("c"))
    async with agent(root, state) as running:
        write(path, policy("a", port="1"), policy("b", port="70000"), policy("d"))
        await running.until(lambda: running.names() == {"a": False, "b": True, "d": False} or not running.errors())
        await running.until(lambda: running.names() == {"a": False, "b": True, "d": False})
        assert running.policies.get(("CiliumNetworkPolicy", "shop", "a")).rules[0].ports[0].first == 1


async def test_a_document_without_a_name_may_be_any_of_those_that_were_there(root: Path, state: Path) -> None:
    path = root / "all.yaml"
    write(path, policy("a"), policy("b"), policy("c"))
    nameless = policy("b")
    del nameless["metadata"]["name"]
    async with agent(root, state) as running:
        write(path, nameless, policy("c"))
        await running.until(lambda: bool(running.errors()))
        assert running.names() == {"a": True, "b": True, "c": False}
        assert len(running.errors()) == 1, "the good one is no double of its own last good version"


async def test_of_two_the_one_in_force_stays(root: Path, state: Path) -> None:
    write(root / "m.yaml", policy("a", port="1"))
    async with agent(root, state) as running:
        write(root / "b.yaml", policy("a", port="2"))
        await running.until(lambda: bool(running.errors()))
        (problem,) = running.errors()
        assert (problem.origin, problem.object) == (str(root / "b.yaml"), "CiliumNetworkPolicy/shop/a")
        assert problem.message == f"is in {root}/m.yaml:1 already: refused"
        assert running.policies.all()[0].origin == str(root / "m.yaml")
    async with agent(root, state) as running:
        assert running.policies.all()[0].origin == str(root / "m.yaml"), "also after a restart, though b comes first"
        assert [p.origin for p in running.errors()] == [str(root / "b.yaml")]
        (root / "m.yaml").unlink()
        await running.until(lambda: running.policies.all()[0].origin == str(root / "b.yaml"))
        assert running.errors() == []
        assert len(running.policies) == 1


async def test_doubles_in_one_file(root: Path, state: Path) -> None:
    write(root / "a.yaml", policy("a", port="1"), policy("a", port="2"))
    async with agent(root, state) as running:
        assert len(running.policies) == 1
        (problem,) = running.errors()
        assert problem.message.startswith(f"is in {root}/a.yaml:")
        assert problem.line > 2


async def test_a_store_that_goes_away_leaves_everything_in_force(root: Path, state: Path, tmp_path: Path) -> None:
    write(root / "a.yaml", policy("a"))
    write(root / "n.yaml", node("n1"))
    async with agent(root, state) as running:
        shutil.move(root, tmp_path / "away")
        await running.until(lambda: running.reflector.state.state == "error")
        health = running.health.get("store")
        assert (health.state, health.message) == ("degraded", f"the store {root} is missing")
        assert running.names() == {"a": False}
    # An agent that starts now must not think that there are no policies.
    async with agent(root, state, synced=False) as running:
        await asyncio.wait_for(running.reflector.ready.wait(), 10)
        assert not running.reflector.synced.is_set()
        assert running.names() == {"a": True}
        assert len(running.db.table(source.NODES)) == 1
        (tmp_path / "away" / "n.yaml").unlink()
        shutil.move(tmp_path / "away", root)
        await asyncio.wait_for(running.reflector.synced.wait(), 10)
        await running.until(lambda: running.names() == {"a": False})
        assert len(running.db.table(source.NODES)) == 0, "what is gone is gone"
        assert running.health.get("store").state == "ok"


async def test_without_store_and_memory_nothing_is_ready(tmp_path: Path, state: Path) -> None:
    async with agent(tmp_path / "none", state, synced=False) as running:
        await running.until(lambda: running.reflector.state.state == "error")
        await running.until(lambda: running.health.get("store").state == "degraded")
        assert not running.reflector.ready.is_set()


async def test_what_went_while_no_agent_ran(root: Path, state: Path) -> None:
    write(root / "a.yaml", policy("a"))
    write(root / "b.yaml", policy("b"))
    async with agent(root, state):
        pass
    (root / "a.yaml").unlink()
    async with agent(root, state) as running:
        assert running.names() == {"b": False}
    async with agent(root, state) as running:
        await running.until(lambda: running.last_good.origins() == [str(root / "b.yaml")])


async def test_kinds_that_do_nothing_are_told_by_weight(root: Path, state: Path) -> None:
    (root / "a.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n---\n"
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: n}\n---\n"
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n"
        "[]\n"
    )
    async with agent(root, state) as running:
        found = {(p.object, p.line): p.severity for p in running.problems.all()}
        assert found == {
            ("Secret/default/s", 1): "notice",
            ("AdminNetworkPolicy/default/n", 5): "error",
            ("", 13): "error",
        }


async def test_a_list_holds_objects(root: Path, state: Path) -> None:
    write(root / "l.yaml", {"apiVersion": "v1", "kind": "List", "items": [policy("a"), policy("b", port="70000")]})
    async with agent(root, state) as running:
        assert running.names() == {"a": False}
        (problem,) = running.errors()
        assert "port" in (root / "l.yaml").read_text().splitlines()[problem.line - 1]


@pytest.mark.timeout(120)  # 4 s on a machine that does nothing else
async def test_ten_thousand_identities_leave_the_loop_to_others(root: Path, state: Path) -> None:
    folder = root / "ciliumidentities"
    folder.mkdir()
    for n in range(256, 10256):
        (folder / f"{n}.yaml").write_text(
            f"apiVersion: cilium.io/v2\nkind: CiliumIdentity\nmetadata: {{name: '{n}'}}\n"
            f"security-labels: {{'k8s:app': a{n}, 'k8s:io.kubernetes.pod.namespace': shop}}\n"
        )
    steps = [0]

    async def count(objects: Sized) -> None:
        while True:
            await asyncio.sleep(0)
            steps.append(len(objects))

    async with asyncio.timeout(100), agent(root, state, synced=False) as running:
        objects = running.db.table(source.IDENTITY_OBJECTS)
        counting = asyncio.get_running_loop().create_task(count(objects))
        await running.reflector.synced.wait()
        assert len(objects) == 10000
        assert [row.id for row in objects.by("labels", ("k8s:app=a300", "k8s:io.kubernetes.pod.namespace=shop"))] == [
            300
        ]
        assert max(after - before for before, after in pairwise(steps)) < 1000
        await asyncio.to_thread(running.store.create_if_absent, identity(20000, "k8s:app=x"))
        await running.until(lambda: objects.get(20000) is not None)
    counting.cancel()


async def test_a_full_disk_keeps_no_policy_from_taking_effect(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agent(root, state) as running:

        def full(*_args) -> None:
            raise CiliumpyError("cannot remember good versions: disk full")

        monkeypatch.setattr(running.last_good, "save", full)
        write(root / "a.yaml", policy("a"))
        await running.until(lambda: running.names() == {"a": False})
        await running.until(lambda: running.health.get("store").message == "cannot remember good versions: disk full")
        monkeypatch.undo()
        await running.until(lambda: running.health.get("store").state == "ok")
        assert running.last_good.get(Key("CiliumNetworkPolicy", "shop", "a")) is not None


async def test_a_slow_disk_keeps_no_policy_from_taking_effect(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = threading.Event()
    async with agent(root, state) as running:
        await running.until(lambda: running.health.get("store").message == "0 objects")
        save = running.last_good.save

        def slow(*what) -> None:
            freed.wait(60)
            save(*what)

        monkeypatch.setattr(running.last_good, "save", slow)
        write(root / "one.yaml", policy("one"))
        await running.until(lambda: "one" in running.names())
        write(root / "two.yaml", policy("two"))
        await running.until(lambda: "two" in running.names())
        freed.set()
    memory = LastGood(state / "last-good")
    kept = {name: memory.get(Key("CiliumNetworkPolicy", "shop", name)) for name in ("one", "two")}
    memory.close()
    assert all(kept.values()), "also what came last, though the agent ended at once"


def test_a_damaged_memory_is_put_aside(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    state.mkdir()
    (state / "objects.sqlite").write_bytes(b"not a database" * 1000)
    memory = LastGood(state)
    memory.save([(Key("Pod", "a", "b"), "f", b"{}")], [])
    assert memory.get(Key("Pod", "a", "b")).origin == "f"
    memory.close()
    assert (state / "objects.damaged").exists()
    assert "damaged" in caplog.text
    (state / "file").write_text("")
    with pytest.raises(CiliumpyError, match="cannot remember good versions"):
        LastGood(state / "file")


async def test_what_is_refused_is_logged_once_and_so_is_its_end(
    root: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = root / "a.yaml"
    path.write_text(BAD["port"][0])
    async with agent(root, state) as running:
        (problem,) = running.problems.all()
        said = f"{path}:{problem.line}: CiliumNetworkPolicy/shop/a: {problem.field}: {problem.message}"
        assert caplog.messages == [said]
        path.write_text(GOOD)
        await running.until(lambda: not running.problems.all())
        assert caplog.messages == [said, f"no more: {said}"]
