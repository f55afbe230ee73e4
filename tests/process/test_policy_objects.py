# SPDX-License-Identifier: Apache-2.0
"""Policies in and out through agents: two real ones on one store, and the command as users type it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ciliumpy.store.directory import journal

from .agent_node import AgentNode, policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .agent_node import Pod

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


class Cluster:
    """Two nodes that a command finds as lab `test`."""

    def __init__(self, nodes: list[AgentNode], folder: Path) -> None:
        self.nodes = nodes
        self.store: Path = nodes[0].store
        self.folder = folder
        lab = folder / "labs" / "test"
        lab.mkdir(parents=True)
        for node in nodes:
            (lab / node.name).symlink_to(node.run)
        (lab / "lab.json").write_text(json.dumps({"name": "test", "nodes": [{"name": node.name} for node in nodes]}))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ciliumpy.cli", *arguments],
            env={**os.environ, "CILIUMPY_RUN_DIR": str(self.folder)},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *arguments: str, data: object = None) -> tuple[int, str, str]:
        text = "" if data is None else data if isinstance(data, str) else json.dumps(data)
        with self.start(*arguments) as process:
            out, err = process.communicate(text, timeout=60)
            assert "Traceback" not in err
            return process.returncode, out, err

    def files(self) -> dict[str, str]:
        """What stands in the store of policies."""
        found = self.store.glob("ciliumnetworkpolicies/**/*.yaml")
        return {str(path.relative_to(self.store)): path.read_text() for path in sorted(found)}

    @property
    def pods(self) -> tuple[Pod, Pod]:
        """`a` of the first node, `b` of the second."""
        return self.nodes[0].pods["a"], self.nodes[1].pods["b"]

    def clean(self) -> None:
        """Without policies, whatever a test has left, and with both agents."""
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                node.start()
        for path in (*self.store.glob("ciliumnetworkpolicies/**/*.yaml"), *self.store.glob("*.yaml")):
            if path.name != "cluster.yaml" and not path.name.startswith("pod-"):
                path.unlink()
        for node in self.nodes:
            node.until(lambda node=node: node.health() == "ok" and not node.get("/v1/policies")["items"], 20.0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("objects")
    made: list[AgentNode] = []
    try:
        for name in ("node0", "node1"):
            (folder / name).mkdir()
            made.append(AgentNode(folder / name, beside=made[0] if made else None))
            made[-1].start()
        for node, pod in zip(made, "ab", strict=True):
            node.add(pod)
        yield Cluster(made, folder / "run")
    finally:
        for node in reversed(made):
            node.close()


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    yield shared
    shared.clean()


def test_a_policy_is_in_force_on_all_nodes_when_import_returns(cluster) -> None:
    n2 = cluster.nodes[1]
    a, b = cluster.pods
    with b.listen(8080):
        assert a.can_connect(b.addresses[0], 8080)
        code, out, err = cluster.ask("policy", "import", "-", "--node", "n1", data=policy("p", "b", peer=None))
        assert (code, out, err) == (0, "CiliumNetworkPolicy/shop/p created\n", "")
        assert not a.can_connect(b.addresses[0], 8080, 0.3), "in force on the other node, at once"
        listed = json.loads(cluster.ask("policy", "list", "-o", "json")[1])["items"]
        assert [(each["node"], each["name"], each["state"]) for each in listed] == [
            ("n1", "p", "in-force"),
            ("n2", "p", "in-force"),
        ]
        assert cluster.ask("policy", "import", "-", data=policy("p", "b", peer=None))[1].endswith("unchanged\n")
        assert cluster.ask("policy", "import", "-", data=policy("p", "b", peer="a"))[1].endswith("configured\n")
        assert a.can_connect(b.addresses[0], 8080)
        assert cluster.ask("policy", "wait", "shop/p") == (0, "", "")
        assert cluster.ask("policy", "wait") == (0, "", "")
        revision = str(n2.get("/v1/status")["policy"]["revision"])
        assert cluster.ask("policy", "wait", revision, "--node", "n2") == (0, "", "")
        late = cluster.ask("policy", "wait", "--revision", "99999", "--node", "n2", "--timeout", "100ms")
        assert late[0] == 1
        assert f"node n2: revision {revision} is in force, {revision} is the newest\n" in late[2]
        assert cluster.ask("policy", "delete", "cnp/shop/p") == (0, "CiliumNetworkPolicy/shop/p deleted\n", "")
        assert a.can_connect(b.addresses[0], 9090, 0.1) is False
        assert not n2.policy_in_force("b"), "no more in force anywhere"
        assert cluster.ask("policy", "delete", "cnp/shop/p")[:2] == (1, "CiliumNetworkPolicy/shop/p not found\n")
        assert cluster.files() == {}


def test_bad_input_is_refused_whole_by_file_line_and_field(cluster) -> None:
    good = policy("good", "b", peer="a")
    texts = {
        "bad.yaml": f"{json.dumps(good)}\n---\n{json.dumps(policy('bad', 'b', peer='a', port=99999))}\n",
        "kind.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n",
        "binary.yaml": "\udcff\udcfe",
        "bomb.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{n}: &a{n} [{','.join(['*a' + (str(n - 1) if n else '')] * 9)}]\n" for n in range(8)),
        "empty.yaml": "# nothing\n",
    }
    (cluster.folder / "d").mkdir()
    for name, text in texts.items():
        (cluster.folder / "d" / name).write_bytes(text.encode(errors="surrogateescape"))
    for arguments, said in {
        ("d/bad.yaml",): "  d/bad.yaml:3: spec.ingress[0].toPorts[0].ports[0].port: 99999 is not a port",
        ("d/kind.yaml",): "  d/kind.yaml:2: kind: must be one of CiliumNetworkPolicy, ",
        ("d/binary.yaml",): "  d/binary.yaml:1: is not UTF-8 text\n",
        ("d/bomb.yaml",): "values with all aliases written out\n",
        ("d/empty.yaml",): "Error: there are no objects in d/empty.yaml\n",
        ("d",): "  d/bomb.yaml:",
        ("d/bad.yaml", "d/kind.yaml"): "  d/kind.yaml:2: kind: must be one of",
    }.items():
        code, out, err = cluster.ask("policy", "import", *arguments)
        assert (code, out) == (1, ""), err
        assert said in err
    assert cluster.ask("policy", "import", "nowhere")[0] == 2
    assert cluster.files() == {}
    assert all(node.get("/v1/policies")["items"] == [] for node in cluster.nodes)


def test_a_users_file_is_never_rewritten(cluster) -> None:
    n1, n2 = cluster.nodes
    text = f"# mine\n{json.dumps(policy('one', 'a', peer='b'))}\n---\n{json.dumps(policy('two', 'a', peer='b'))}\n"
    mine = cluster.store / "mine.yaml"
    (cluster.store / "mine.tmp").write_text(text)
    (cluster.store / "mine.tmp").rename(mine)
    alone = cluster.store / "alone.yaml"
    alone.write_text(json.dumps(policy("three", "a", peer="b")))
    for node in (n1, n2):
        node.until(lambda node=node: len(node.get("/v1/policies")["items"]) == 3)
    for name, place in (("two", f"{mine}:4"), ("three", f"{alone}:1")):
        refused = cluster.ask("policy", "delete", f"shop/{name}")
        assert refused[:2] == (1, "")
        assert f"CiliumNetworkPolicy/shop/{name}: is in {place}, a file that is never rewritten" in refused[2]
        refused = cluster.ask("policy", "import", "-", data=policy(name, "b", peer="b"))
        assert refused[:2] == (1, "")
        assert f"is in {place}, a file that is never rewritten" in refused[2]
    assert (mine.read_text(), cluster.files()) == (text, {})
    both = [policy("four", "a", peer="b"), policy("two", "b", peer="b")]
    assert cluster.ask("policy", "import", "-", data={"kind": "List", "apiVersion": "v1", "items": both})[0] == 1
    assert cluster.files() == {}, "all or none"


def test_wait_says_which_node_has_not_what_and_why(cluster) -> None:
    n1, n2 = cluster.nodes
    assert cluster.ask("policy", "import", "-", data=policy("p", "b", peer="a"))[0] == 0
    path = cluster.store / "ciliumnetworkpolicies/shop/p.yaml"
    path.write_text(path.read_text().replace("8080", "99999"))
    for node in (n1, n2):
        node.until(lambda node=node: node.get("/v1/policies")["items"][0]["state"] == "stale")
    code, _, err = cluster.ask("policy", "wait", "shop/p", "--timeout", "30s")
    assert code == 1
    assert f"node n2: CiliumNetworkPolicy/shop/p: {path} is bad, its last good version is in force\n" in err
    assert n2.stop() == 0
    code, out, err = cluster.ask("policy", "import", "-", data=policy("p", "b", peer="b"))
    assert (code, out) == (0, "CiliumNetworkPolicy/shop/p configured\n"), err
    assert err == "node n2: the agent is not running; it takes the change when it runs\n"
    code, _, err = cluster.ask("policy", "wait", "shop/p", "--timeout", "300ms")
    assert (code, err) == (1, "Error: not in force on 1 of 2 nodes\nnode n2: the agent is not running\n")
    waiting = cluster.start("policy", "wait", "shop/p")
    n2.start()
    _, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, err) == (0, "")


def test_two_imports_at_once_both_take_effect(cluster) -> None:
    answers: dict[str, tuple[int, str, str]] = {}

    def run(node: str) -> None:
        every = [policy(f"{node}-{n}", "b", peer="a") for n in range(40)] + [policy("same", node, peer="a")]
        data = {"kind": "List", "apiVersion": "v1", "items": every}
        answers[node] = cluster.ask("policy", "import", "-", "--node", node, "--no-wait", data=data)

    threads = [threading.Thread(target=run, args=(node,)) for node in ("n1", "n2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[node][0] for node in ("n1", "n2")] == [0, 0], answers
    assert cluster.ask("policy", "wait") == (0, "", "")
    assert len(cluster.files()) == 81
    assert [len(node.get("/v1/policies")["items"]) for node in cluster.nodes] == [81, 81]


def test_an_agent_that_is_killed_while_it_imports_leaves_all_or_nothing(cluster) -> None:
    n1, n2 = cluster.nodes
    many = [policy(f"p-{n}", "b", peer="a") for n in range(2000)]
    importing = cluster.start("policy", "import", "-", "--node", "n1", "--no-wait")
    text = json.dumps({"kind": "List", "apiVersion": "v1", "items": many})
    sent = threading.Thread(target=importing.communicate, args=(text,))
    sent.start()
    n1.until((cluster.store / journal.FOLDER / "100").exists, 20.0)
    n1.stop(signal.SIGKILL)
    sent.join(30)
    assert importing.returncode == 1
    assert cluster.ask("policy", "delete", "cnp/shop/other", "--node", "n2")[0] == 1, "the next who writes finishes it"
    assert not (cluster.store / journal.FOLDER).exists()
    assert len(cluster.files()) in (0, 2000)
    wanted = len(cluster.files())
    n2.until(lambda: len(n2.get("/v1/policies")["items"]) == wanted, 20.0)


def test_what_is_in_force_can_be_looked_at(cluster) -> None:
    n1, n2 = cluster.nodes
    assert cluster.ask("policy", "import", "-", data=policy("p", "b", peer="a"))[0] == 0
    code, manifests, _ = cluster.ask("policy", "list", "-o", "yaml")
    assert code == 0
    code, out, err = cluster.ask("policy", "import", "-", data=manifests)
    assert (code, out) == (0, "CiliumNetworkPolicy/shop/p unchanged\n"), err
    assert cluster.ask("policy", "get", "shop/p", "-o", "yaml") == (0, manifests, "")
    listed = json.loads(cluster.ask("policy", "list", "-o", "json")[1])["items"]
    numbers = {row["pod"]: row for node in (n1, n2) for row in node.get("/v1/endpoints")["items"]}
    assert [each["endpoints"] for each in listed] == [[], [numbers["b"]["id"]]]
    selectors = json.loads(cluster.ask("policy", "selectors", "-o", "json")[1])["items"]
    (peer,) = [each for each in selectors if each["users"]]
    assert (peer["node"], peer["policies"]) == ("n2", ["CiliumNetworkPolicy/shop/p"])
    assert peer["identities"] == [numbers["a"]["identity"]], "of the other node's pod"
    judged = json.loads(cluster.ask("endpoint", "get", "shop/b", "-o", "json")[1])["items"][0]["policy"]
    assert (judged["state"], judged["error"], judged["difference"]) == ("in-force", "", [])
    assert judged["realised"] == judged["desired"]
    assert judged["realised"]["rules"] == ["CiliumNetworkPolicy/shop/p#spec.ingress[0]"]


def test_status_is_red_for_what_is_refused_and_counts_identities(cluster) -> None:
    n1, n2 = cluster.nodes
    said = n1.get("/v1/status")
    own = [row["id"] for row in n1.get("/v1/identities")["items"] if 256 <= row["id"] < 65536]
    assert (said["identityUse"]["cluster"], said["identityUse"]["clusterTotal"]) == (len(own), 65280)
    assert said["policy"]["refused"] == {"count": 0, "first": []}
    for name in ("x", "y"):
        n1.apply(name, policy(name, "b", peer="a", port=99999))
    for node in (n1, n2):
        node.until(lambda node=node: node.get("/v1/status")["policy"]["refused"]["count"] == 2)
    first = n1.get("/v1/status")["policy"]["refused"]["first"][0]
    assert (first["object"], first["origin"], first["line"]) == (
        "CiliumNetworkPolicy/shop/x",
        str(cluster.store / "x.yaml"),
        1,
    )
    code, out, _ = cluster.ask("status", "--node", "n1")
    assert code == 1
    assert "0 in force, 2 refused (shop/x, …), revision " in out
    code, _, err = cluster.ask("policy", "wait", "--timeout", "30s")
    assert code == 1
    assert f"node n2: CiliumNetworkPolicy/shop/x: {cluster.store}/x.yaml:1: spec.ingress[0].toPorts" in err
