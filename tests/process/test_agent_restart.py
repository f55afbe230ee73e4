# SPDX-License-Identifier: Apache-2.0
"""The agent comes and goes; packets, policy and numbers stay."""

from __future__ import annotations

import json
import signal
import socket

import pytest

from ciliumpy.net import links, netns
from tests.soak import scaled

from .agent_node import AgentNode, passes, policy
from .probe import Probe

pytestmark = pytest.mark.root


def epochs(node: AgentNode) -> list[int]:
    found = []
    for name in ("cp_epoch_v1", "cp_epepoch_v1", "cp_ipepoch_v1"):
        with node.map(name) as map_:
            found += map_.items()[1].tolist()
    return found


def numbers(node: AgentNode) -> list[tuple[object, ...]]:
    keys = ("id", "identity", "ipv4", "ipv6", "mac", "hostInterface", "state")
    return [tuple(row[key] for key in keys) for row in node.get("/v1/endpoints")["items"]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_packet_is_lost_and_every_number_is_kept(node: AgentNode, number: int) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"), policy("c-open", "c", peer=None))
    node.delete("policy")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    before, before_epochs = numbers(node), epochs(node)
    probes = [Probe(a, c, address) for address in c.addresses]
    with b.listen(8080), a.connect(b.addresses[0], 8080) as alive:
        for _ in range(scaled(1)):
            node.stop(number)
            assert passes(alive)
            assert a.can_connect(b.addresses[1], 8080), "new connections that are allowed open without the agent"
            assert not c.can_connect(b.addresses[0], 8080, 0.2), "and the others do not"
            node.start()
            assert passes(alive)
            assert a.can_connect(b.addresses[0], 8080)
            assert not c.can_connect(b.addresses[1], 8080, 0.2)
    assert [probe.stop() for probe in probes] == [0, 0]
    assert all(probe.sent > 500 for probe in probes)
    assert numbers(node) == before
    assert all(now > then for now, then in zip(epochs(node), before_epochs, strict=True))
    assert "Traceback" not in node.log()


def test_what_changed_while_the_agent_was_down_holds_after_its_start(node: AgentNode) -> None:
    a, b, gone = node.add("a"), node.add("b"), node.add("gone")
    node.add("queued")
    with b.listen(8080), a.connect(b.addresses[0], 8080) as revoked:
        node.stop(signal.SIGKILL)
        node.apply("policy", policy("b-from-nobody", "b", peer="nobody"))
        netns.run_in(node.place.fd, links.delete, gone.result["interfaces"][0]["name"])
        queue = node.run / "cni-deletes"
        queue.mkdir()
        said = {"command": "DEL", "containerID": node.pods["queued"].container, "ifname": "eth0"}
        (queue / "queued-eth0.json").write_text(json.dumps(said))
        (queue / "damaged-eth0.json").write_text("{")
        node.start()
        assert not passes(revoked)
        assert not a.can_connect(b.addresses[0], 8080, 0.2)
    node.until(lambda: len(node.get("/v1/endpoints")["items"]) == 2)
    node.until(lambda: list(queue.iterdir()) == [])
    assert len([d for d in node.devices() if d.startswith("lxc")]) == 2
    assert len([p for p in (node.bpffs / "links").iterdir() if p.name.startswith("pod-")]) == 2
    with node.map("cp_local_v1") as map_:
        assert len(map_.items()[0]) == 4
    node.until(lambda: not (node.store / "ciliumendpoints" / "shop" / "gone.yaml").exists())
    fresh = node.add("fresh")
    assert fresh.addresses[0] not in {*a.addresses, *b.addresses}
    assert fresh.ping(a.addresses[0])


def test_half_a_plug_in_is_removed_by_the_next_agent(node: AgentNode) -> None:
    node.add("a")
    pod = node.add("half")
    node.stop(signal.SIGKILL)
    # As if it had been killed after it made the devices and before it wrote down their number.
    path = node.state / "endpoints" / "2.json"
    record = json.loads(path.read_text())
    record["endpoint"]["ifindex"] = 0
    path.write_text(json.dumps(record))
    node.start()
    assert pod.result["interfaces"][0]["name"] not in node.devices()
    assert not path.exists()
    assert [row["pod"] for row in node.get("/v1/endpoints")["items"]] == ["a"]


def test_without_the_meaning_of_its_bits_it_starts_closed_and_recovers(node: AgentNode) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    node.stop(signal.SIGKILL)
    (node.run / "selectors.json").unlink()
    node.start()
    with b.listen(8080):
        assert a.can_connect(b.addresses[0], 8080)
        assert not c.can_connect(b.addresses[0], 8080, 0.2)
    assert "the selector bits of the former agent are lost" in node.log()


def test_without_its_state_it_cleans_up_what_it_finds(node: AgentNode) -> None:
    node.add("a")
    node.stop(signal.SIGKILL)
    for path in (node.state / "endpoints").iterdir():
        path.unlink()
    node.start()
    assert node.get("/v1/endpoints")["items"] == []
    assert [p.name for p in (node.bpffs / "links").iterdir() if p.name.startswith("pod-")] == []
    with node.map("cp_endpoint_v1") as map_:
        assert not map_.items()[1]["generation"].any()


def test_lost_epochs_flush_conntrack(node: AgentNode) -> None:
    a, b = node.add("a"), node.add("b")
    assert a.ping(b.addresses[0])
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (b.addresses[0], 9))  # nobody listens there
    with node.map("cp_ct4_v1") as answered, node.map("cp_ctu4_v1") as unanswered:
        assert len(answered.items()[0]) > 0
        assert len(unanswered.items()[0]) > 0
        node.stop()
        for path in (node.bpffs / "maps").glob("cp_ep*epoch_v1"):
            path.unlink()
        (node.bpffs / "maps" / "cp_epoch_v1").unlink()
        node.start()
        assert len(answered.items()[0]) == len(unanswered.items()[0]) == 0
    assert all(value > 0 for value in epochs(node))
    assert a.ping(b.addresses[0])


def test_events_of_the_meantime_are_read_or_counted(node: AgentNode) -> None:
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-nobody", "b", peer="nobody"))
    node.until(lambda: node.policy_in_force("b"))
    before = node.get("/v1/status")["hubble"]
    assert before["lost"] == 0
    node.stop(signal.SIGKILL)
    count = 40_000  # the rings hold 8,192 each
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((b.addresses[0], 7))
        for _ in range(count):
            sender.send(b"x")
    node.start()
    # A gap is found with the next event of its CPU; what the limit of a CPU held back is counted by the datapath.

    def accounted() -> int:
        a.ping(b.addresses[0], timeout_s=0.01)
        hubble = node.get("/v1/status")["hubble"]
        return sum(hubble[key] for key in ("events", "lost", "heldBack"))

    node.until(lambda: accounted() >= count, timeout_s=15.0)
    assert accounted() <= count + 5000, "and none twice"
    assert node.get("/v1/status")["hubble"]["events"] > 0
