# SPDX-License-Identifier: Apache-2.0
"""What goes wrong opens nothing, is said in the status, and passes by itself."""

from __future__ import annotations

import json
import signal
import time

import pytest

from ciliumpy.net import addresses, libc, links, netns, routes

from .agent_node import AgentNode, passes, policy

pytestmark = pytest.mark.root


def wide(name: str, subject: str, ports: range) -> dict:
    """A policy with a class of its own for each port."""
    document = policy(name, subject, peer="a")
    document["spec"]["ingress"] = [
        {
            "fromEndpoints": [{"matchLabels": {"app": f"peer-{port}"}}],
            "toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"}]}],
        }
        for port in ports
    ]
    return document


def test_a_full_policy_map_is_refused_and_never_open(make_node) -> None:
    node: AgentNode = make_node(maps={"policyClasses": 16})
    node.start()
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    with b.listen(8080):
        node.apply("wide", wide("wide", "b", range(1, 40)), policy("b-from-c", "b", peer="c"))
        problems = node.until(lambda: node.get("/v1/status")["problems"])
        assert node.get("/v1/status")["state"] == "degraded"
        why = "map cp_class_v2 is full: all 16 rows are in use (maps.policyClasses gives it more)"
        assert any(why in p["message"] for p in problems), problems
        classes = next(one for one in node.get("/v1/status")["maps"] if one["name"] == "cp_class_v2")
        assert (classes["maxEntries"], classes["setting"]) == (16, "maps.policyClasses")
        assert 0 < classes["pressure"] == round(classes["entries"] / 16, 4) < 1
        assert a.can_connect(b.addresses[0], 8080), "the former policy stays in force, whole"
        assert not c.can_connect(b.addresses[0], 8080, 0.2)
        # An endpoint whose first policy does not fit is not plugged in at all.
        node.apply("wide-d", wide("wide-d", "d", range(1, 40)))
        node.delete("wide")
        devices = node.devices()
        with pytest.raises(AssertionError, match="not ready after 20 s: map cp_class_v2 is full"):
            node.add("d")
        assert node.devices() == devices
        assert a.can_connect(b.addresses[0], 8080)
    node.delete("wide-d")
    node.until(lambda: node.health() == "ok", 10.0)


@pytest.mark.parametrize("how", ["moved", "marker"])
def test_a_store_that_is_gone_changes_nothing(node: AgentNode, how: str) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    aside = node.folder / "aside"
    with b.listen(8080), a.connect(b.addresses[0], 8080) as alive:
        lost = node.store if how == "moved" else node.store / "cluster.yaml"
        lost.rename(aside)
        status = node.until(lambda: (s := node.get("/v1/status"))["state"] == "degraded" and s)
        assert status["store"]["state"] == "error"
        assert str(node.store) in status["store"]["message"]
        assert passes(alive)
        assert a.can_connect(b.addresses[0], 8080)
        assert not c.can_connect(b.addresses[0], 8080, 0.2)
        # Also over a restart.
        node.stop(signal.SIGKILL)
        node.start(wait=False)
        node.until(lambda: node.health() == "degraded", 15.0)
        assert passes(alive)
        assert a.can_connect(b.addresses[1], 8080)
        assert not c.can_connect(b.addresses[1], 8080, 0.2)
        aside.rename(lost)
        node.until(lambda: node.health() == "ok", 15.0)
        assert passes(alive)
        assert not c.can_connect(b.addresses[0], 8080, 0.2)


def test_a_store_that_is_read_only_is_said_and_read(node: AgentNode) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    libc.mount(str(node.store), str(node.store), flags=libc.MS_BIND)
    try:
        libc.mount("none", str(node.store), flags=libc.MS_BIND | libc.MS_REMOUNT | libc.MS_RDONLY)
        status = node.get("/v1/status")
        assert status["state"] == "degraded"
        assert [p["origin"] for p in status["problems"]] == [str(node.store)]
        assert "cannot be written" in status["problems"][0]["message"]
        with b.listen(8080):
            assert a.can_connect(b.addresses[0], 8080)
            libc.mount("none", str(node.store), flags=libc.MS_BIND | libc.MS_REMOUNT)
            (node.store / "policy.yaml").write_text(json.dumps(policy("b-from-a", "b", peer="a")))
            libc.mount("none", str(node.store), flags=libc.MS_BIND | libc.MS_REMOUNT | libc.MS_RDONLY)
            node.until(lambda: node.policy_in_force("b"))
            assert not c.can_connect(b.addresses[0], 8080, 0.2)
    finally:
        libc.umount(str(node.store), libc.MNT_DETACH)
    node.until(lambda: node.health() == "ok")


def test_without_its_pins_a_pod_is_closed(node: AgentNode) -> None:
    a, b = node.add("a"), node.add("b")
    node.stop(signal.SIGKILL)
    assert a.ping(b.addresses[0])
    for path in (node.bpffs / "links").iterdir():
        path.unlink()
    # The kernel lets go of a link a little after its last name.
    node.until(lambda: not a.ping(b.addresses[0], timeout_s=0.2))
    for target in (*b.addresses, "10.244.0.1", "fd00:10:244::1", "172.30.7.1", "172.30.7.254", "fd00:30:7::fe"):
        assert not a.ping(target, timeout_s=0.3), target
    node.start()
    for target in (*b.addresses, "10.244.0.1", "fd00:30:7::fe"):
        # The pod may still be asking for a neighbour that did not answer: what waits for the answer is dropped.
        node.until(lambda target=target: a.ping(target, timeout_s=0.5), timeout_s=10.0)


def test_a_link_that_is_torn_off_is_put_back(node: AgentNode) -> None:
    a, b = node.add("a"), node.add("b")
    device = a.result["interfaces"][0]["name"]
    with node.map("cp_link_v1") as link, node.map("cp_local_v1") as local:
        for map_ in (link, local):
            for key in map_.items()[0]:
                map_.delete(key.tobytes())
    assert not a.ping(b.addresses[0], timeout_s=0.2)
    (node.bpffs / "links" / f"pod-{device}").unlink()
    node.stop(signal.SIGTERM)
    node.start()
    # The pod may still be asking for its gateway, which did not answer: what waits for the answer is dropped.
    node.until(lambda: a.ping(b.addresses[0], timeout_s=0.5), timeout_s=10.0)


def test_bad_policies_keep_what_was_before(node: AgentNode) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    bad = policy("b-from-a", "b", peer="c", port=70000)
    with b.listen(8080):
        node.apply("policy", bad)
        status = node.until(lambda: (s := node.get("/v1/status"))["problems"] and s)
        problem = status["problems"][0]
        assert problem["origin"].endswith("/policy.yaml")
        assert problem["field"] == "spec.ingress[0].toPorts[0].ports[0].port"
        assert problem["line"] > 0
        assert status["state"] == "degraded"
        assert a.can_connect(b.addresses[0], 8080)
        assert not c.can_connect(b.addresses[0], 8080, 0.2)
        node.stop(signal.SIGKILL)
        node.start(wait=False)
        node.until(lambda: node.health() == "degraded", 15.0)
        assert a.can_connect(b.addresses[0], 8080)
        assert not c.can_connect(b.addresses[0], 8080, 0.2)
        node.apply("policy", policy("b-from-a", "b", peer="c"))
        node.until(lambda: c.can_connect(b.addresses[0], 8080, 0.2))
        node.until(lambda: node.health() == "ok")


def test_what_the_node_changes_is_decided_anew(node: AgentNode) -> None:
    def epoch() -> int:
        return int(node.get("/v1/status")["datapath"]["epoch"])

    a = node.add("a")
    eth0 = netns.run_in(node.place.fd, links.need, "eth0").ifindex
    for change in (
        lambda: routes.replace_route("192.0.2.0/24", eth0, via="172.30.7.254"),
        lambda: addresses.set_addresses(eth0, ["172.30.7.1/24", "fd00:30:7::1/64", "192.0.2.1/32"]),
        lambda: links.set_mtu(eth0, 1400),
    ):
        before = epoch()
        netns.run_in(node.place.fd, change)
        node.until(lambda before=before: epoch() > before)

    def settled() -> int:
        """A change is more than one message of the kernel: wait until none has come for a while."""
        last, now = -1, epoch()
        while now != last:
            time.sleep(0.3)
            last, now = now, epoch()
        return now

    def unmoved_by(mtu: int) -> bool:
        before = settled()
        netns.run_in(node.place.fd, links.set_mtu, a.result["interfaces"][0]["name"], mtu)
        return settled() == before

    # The kernel may have something of its own to tell in between: then once more.
    assert any(unmoved_by(mtu) for mtu in (1400, 1399, 1398)), "a pod's device is our own doing"
    assert a.ping("10.244.0.1")
