# SPDX-License-Identifier: Apache-2.0
"""One real agent on one node: it starts, plugs pods in, enforces policy, tells what it saw, and stops."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys

import pytest

from ciliumpy.net import links, netns

from .agent_node import NODE4, NODE6, WORLD4, WORLD6, drops, passes, policy

pytestmark = pytest.mark.root


def test_start_and_stop(node) -> None:
    said = json.loads((node.run / "agent.json").read_text())
    assert (said["node"], said["lab"], said["pid"]) == ("n1", "test", node.process.pid)
    for name in ("agent.sock", "hubble.sock", "cni.sock"):
        mode = (node.run / name).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600, name
    status = node.get("/v1/status")
    assert status["state"] == "ok"
    assert status["ipam"]["ipv4"]["cidr"] == "10.244.0.0/24"
    assert [job["name"] for job in status["jobs"] if job["state"] == "degraded"] == []
    assert (node.store / "ciliumnodes" / "n1.yaml").exists()
    assert node.stop() == 0
    assert not (node.run / "agent.json").exists()
    assert not (node.run / "agent.sock").exists()
    pins = {path.name for path in (node.bpffs / "links").iterdir()}
    assert pins == {"host-cilium_host", "overlay-cilium_vxlan", "netdev-eth0"}, "the datapath stays"
    assert "Traceback" not in node.log()


def test_a_second_agent_is_refused(node) -> None:
    command = [sys.executable, "-m", "ciliumpy.daemon", "--config", str(node.config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("error: another agent holds ")
    assert node.health() == "ok"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"network": {"devize": "eth0"}}, "there is no setting network.devize"),
        ({"network": {"device": "eth7"}}, "network device eth7 is not here"),
        ({"network": {"tunnelPort": 70000}}, "network.tunnelPort: "),
        ({"store": {"path": "/nowhere"}}, "the store /nowhere is missing"),
        ({"ipam": {"clusterPodCIDRs": ["10.244.0.0/16"]}}, "ipam.clusterPodCIDRs has no IPv6 prefix"),
    ],
)
def test_bad_configuration_is_one_message(make_node, settings, error) -> None:
    node = make_node(**settings)
    node.start(wait=False)
    assert node.process.wait(20) in {1, 2}
    said = node.log()
    assert error in said
    assert "Traceback" not in said


def test_pods_reach_each_other_the_host_and_the_world(node) -> None:
    a, b = node.add("a"), node.add("b")
    assert a.addresses[0].startswith("10.244.0.")
    with b.listen(8080):
        for address in b.addresses:
            assert a.ping(address, count=3), address
            assert a.can_connect(address, 8080), address
            assert node.place.ping(address), address
            assert node.place.can_connect(address, 8080), address
            assert node.world.ping(address), address
            assert node.world.can_connect(address, 8080), address
        for address in (NODE4, NODE6, WORLD4, WORLD6, "10.244.0.1", "fd00:10:244::1"):
            assert a.ping(address), address
        with a.connect(b.addresses[0], 8080) as connection:
            connection.sendall(b"x" * 200_000)
    published = (node.store / "ciliumendpoints" / "shop" / "a.yaml").read_text()
    assert a.addresses[1] in published


def test_policy_is_enforced_seen_and_lifted(node) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    with b.listen(8080), b.listen(9090):
        alive = {pod: pod.connect(b.addresses[0], 8080) for pod in (a, c)}
        node.apply("policy", policy("b-from-a", "b", peer="a"))
        node.until(lambda: node.policy_in_force("b"))
        for address in b.addresses:
            assert a.can_connect(address, 8080)
            assert not a.can_connect(address, 9090, 0.3)
            assert not a.ping(address, timeout_s=0.3)
            assert not c.can_connect(address, 8080, 0.3)
            assert node.place.can_connect(address, 9090), "the host always reaches its own pods"
            assert not node.world.can_connect(address, 8080, 0.3)
        assert passes(alive[a]), "what is allowed lives on"
        assert not passes(alive[c]), "what is revoked ends"
        node.apply("policy", policy("b-from-a", "b", peer="c", port=9090))
        node.until(lambda: c.can_connect(b.addresses[0], 9090, 0.2))
        assert not a.can_connect(b.addresses[0], 8080, 0.3)
        node.delete("policy")
        node.until(lambda: not node.policy_in_force("b"))
        assert a.can_connect(b.addresses[1], 9090)
        for connection in alive.values():
            connection.close()


def test_drops_are_told_as_they_happen(node) -> None:
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-nobody", "b", peer=None))
    node.until(lambda: node.policy_in_force("b"))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(node.run / "agent.sock"))
        client.sendall(b"GET /v1/monitor?type=drop HTTP/1.1\r\nHost: agent\r\n\r\n")
        received = client.recv(65536)
        assert not a.ping(b.addresses[0], timeout_s=0.2)
        while b'"reason"' not in received:
            received += client.recv(65536)
    event = json.loads(next(line for line in received.splitlines() if b'"reason"' in line))
    assert event["type"] == "drop"
    assert event["reason"] == "Policy denied"
    assert (event["summary"]["l3"]["src"], event["summary"]["l3"]["dst"]) == (a.addresses[0], b.addresses[0])


def test_a_spoofed_source_is_dropped(node) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    from ciliumpy.net import addresses

    def take_over() -> None:
        device = links.need("eth0").ifindex
        addresses.set_addresses(device, [f"{ip}/{128 if ':' in ip else 32}" for ip in (*a.addresses, *c.addresses)])

    assert a.ping(b.addresses[0])
    netns.run_in(c.fd, take_over)
    before = drops(node, 132)
    for mine, other, target in zip(c.addresses, a.addresses, b.addresses, strict=True):
        assert c.ping(target, source=mine)
        assert not c.ping(target, source=other, timeout_s=0.3), other
    assert drops(node, 132) == before + 2


def test_delete_leaves_nothing(node) -> None:
    a, b = node.add("a"), node.add("b")
    device = a.result["interfaces"][0]["name"]
    assert device in node.devices()
    assert node.cni("DEL", a) == {"result": {}}
    assert device not in node.devices()
    assert not (node.bpffs / "links" / f"pod-{device}").exists()
    assert list((node.state / "endpoints").glob("*.json")) == [node.state / "endpoints" / "2.json"]
    with node.map("cp_local_v1") as map_:
        assert len(map_.items()[0]) == 2
    assert not b.ping(a.addresses[0], timeout_s=0.2)
    node.until(lambda: not (node.store / "ciliumendpoints" / "shop" / "a.yaml").exists())
    assert node.cni("DEL", a) == {"result": {}}, "of the unknown: success"


def test_add_twice_and_add_that_fails(node) -> None:
    a = node.add("a")
    assert node.cni("ADD", a, netns_fd=a.fd) == {"result": a.result}
    devices = node.devices()
    other = node.add("b")
    other.container = "another"
    answer = node.cni("ADD", other, netns_fd=other.fd)
    assert "File exists" in answer["error"]["msg"], "its eth0 is there"
    assert len(node.devices()) == len(devices) + 1
    netns.run_in(node.place.fd, links.delete, a.result["interfaces"][0]["name"])
    answer = node.cni("ADD", a, netns_fd=a.fd)
    assert "is not what it was" in answer["error"]["msg"]
    assert node.get("/v1/status")["ipam"]["ipv4"]["allocated"] == 2


def test_garbage_on_the_cni_socket(node) -> None:
    for line in (
        b"",
        b"\n",
        b"{}\n",
        b"[1,2]\n",
        b'{"command":"FROB","containerID":"x","ifname":"y"}\n',
        b"\xff" * 70000,
    ):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(node.run / "cni.sock"))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            answer = json.loads(client.recv(65536))
            assert answer["error"]["code"] == 4, answer
    assert node.health() == "ok"


def test_a_pod_whose_name_is_none_is_refused(node) -> None:
    pod = node.add("a")
    for name in ("../x", "a\nb", "\x1b[31m", "UPPER", "x" * 254):
        for fault, pod.namespace, pod.name in (("NAME", "shop", name), ("NAMESPACE", name, "a")):
            pod.container = f"c-{fault}"
            error = node.cni("ADD", pod, netns_fd=pod.fd, ifname="eth1")["error"]
            assert (error["code"], error["msg"].partition(":")[0]) == (4, f"K8S_POD_{fault}")
    assert node.get("/v1/status")["endpoints"]["total"] == 1


def test_a_pod_that_nobody_knows_is_init(node) -> None:
    pod = node.add("ghost", known=False)
    row = node.get("/v1/endpoints")["items"][0]
    assert (row["identity"], row["labels"], row["state"]) == (5, ["reserved:init"], "ready")
    assert row["policy"] == {"ingress": "enabled", "egress": "enabled"}, "closed until it is known"
    assert not pod.ping(WORLD4, timeout_s=0.2)
    node.apply(
        "late",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "ghost", "namespace": "shop", "labels": {"app": "late"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        },
    )
    row = node.until(lambda: next((r for r in node.get("/v1/endpoints")["items"] if r["identity"] >= 256), None))
    assert "k8s:app=late" in row["labels"]
    node.until(lambda: pod.ping(WORLD4, timeout_s=0.2))


def test_labels_that_change_change_the_identity(node) -> None:
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-x", "b", peer="x"))
    node.until(lambda: node.policy_in_force("b"))
    with b.listen(8080):
        assert not a.can_connect(b.addresses[0], 8080, 0.3)
        node.apply(
            "pod-a",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "a", "namespace": "shop", "labels": {"app": "x"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
            },
        )
        node.until(lambda: a.can_connect(b.addresses[0], 8080, 0.2))


def test_term_while_requests_are_under_way(node) -> None:
    import threading

    from .agent_node import Pod

    pod = Pod("slow", node.folder / "ns-slow")
    node.pods["slow"] = pod
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(ask(node, pod)))
    asking.start()
    node.until(lambda: len(node.get("/v1/statedb")["items"]) > 0)
    assert node.stop(signal.SIGTERM) == 0
    asking.join(10)
    assert "Traceback" not in node.log()
    assert not [d for d in node.devices() if d.startswith("lxc")]


def ask(node, pod) -> object:
    try:
        return node.cni("ADD", pod, netns_fd=pod.fd)
    except (OSError, ValueError) as error:
        return error
