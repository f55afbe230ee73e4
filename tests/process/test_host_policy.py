# SPDX-License-Identifier: Apache-2.0
"""Policies for the node itself, with real agents and real sockets: who reaches it, whom it reaches, and when."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self

import pytest

from .agent_node import WORLD4, WORLD6, AgentNode, Place
from .test_live_flows import command, seen
from .wired import Cluster, Way, clusters, udp_there_and_back

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

FIRST = ("172.30.7.1", "fd00:30:7::1")
SECOND = ("172.30.7.2", "fd00:30:7::2")
WORLD = (WORLD4, WORLD6)
OPEN, SHUT = 7001, 7002
DENIED_S = 0.4  # long enough for an answer that came
HOST_ID = 4095


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from clusters(tmp_path_factory.mktemp("host"), {"policy": {"hostFirewall": True}})


@pytest.fixture(autouse=True)
def _without_policies(cluster: Cluster) -> Iterator[None]:
    yield
    remove(cluster)


def rule(direction: str, *peers: dict[str, Any], ports: tuple[int, ...] = (OPEN,), **more: Any) -> dict[str, Any]:
    key = {"ingress": "from", "egress": "to"}[direction.removesuffix("Deny")]
    made: list[dict[str, Any]] = []
    for peer in peers:
        ((kind, value),) = peer.items()
        made.append({f"{key}{kind}": value} | more)
        if ports:
            made[-1]["toPorts"] = [{"ports": [{"port": str(port), "protocol": "ANY"} for port in ports]}]
    return {direction: made or [{}]}


def entity(*names: str) -> dict[str, Any]:
    return {"Entities": list(names)}


def pods(**labels: str) -> dict[str, Any]:
    return {"Endpoints": [{"matchLabels": labels}]}


def apply(cluster: Cluster, *specs: dict[str, Any], selector: dict[str, Any] | None = None) -> None:
    """One policy of that name; it is in force at both nodes, or selects none, when this returns."""
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "hosts"},
        "specs": [{"nodeSelector": selector or {}, **spec} for spec in specs],
    }
    before = [revision(node) for node in nodes(cluster)]
    cluster.first.apply("hosts", policy)
    settled(cluster, before)


def remove(cluster: Cluster) -> None:
    if (cluster.first.store / "hosts.yaml").exists():
        before = [revision(node) for node in nodes(cluster)]
        cluster.first.delete("hosts")
        settled(cluster, before)


def nodes(cluster: Cluster) -> tuple[AgentNode, AgentNode]:
    return cluster.first, cluster.second


def revision(node: AgentNode) -> int:
    return int(node.get("/v1/status")["policy"]["revision"])


def settled(cluster: Cluster, before: list[int]) -> None:
    for node, old in zip(nodes(cluster), before, strict=True):
        node.until(lambda node=node, old=old: revision(node) > old, 15.0)
        node.until(lambda node=node: in_force(node), 15.0)


def in_force(node: AgentNode) -> bool:
    return node.get("/v1/status")["policy"]["pending"] == 0 and host(node)["state"] == "ready"


def host(node: AgentNode) -> dict[str, Any]:
    return dict(node.get(f"/v1/endpoints/{HOST_ID}"))


def reaches(source: Place, addresses: tuple[str, ...], port: int) -> list[bool]:
    """Whether a connection can be opened, by family; both are tried at the same time."""
    return at_once(lambda address: source.can_connect(address, port, DENIED_S), addresses)


def at_once(ask: Callable[[str], bool], addresses: tuple[str, ...]) -> list[bool]:
    with ThreadPoolExecutor(len(addresses)) as pool:
        return list(pool.map(ask, addresses))


@pytest.fixture
def servers(cluster: Cluster) -> Iterator[None]:
    """Everybody listens on both ports."""
    made = [place.listen(port) for place in cluster.places() for port in (OPEN, SHUT)]
    try:
        yield
    finally:
        for each in made:
            each.close()


YES, NO = [True, True], [False, False]


def test_it_is_an_endpoint(cluster: Cluster) -> None:
    row = host(cluster.first)

    assert (row["identity"], row["labels"], row["pod"]) == (1, ["reserved:host"], "")
    assert (row["policy"]["ingress"], row["policy"]["egress"]) == ("disabled", "disabled")
    apply(cluster, rule("ingress", entity("world")))
    policy = host(cluster.first)["policy"]
    assert (policy["ingress"], policy["egress"]) == ("enabled", "disabled")
    others = [each for each in cluster.first.get("/v1/endpoints")["items"] if each["id"] != HOST_ID]
    assert {each["policy"]["ingress"] for each in others} == {"disabled"}
    assert [
        path.name for path in cluster.first.store.glob("ciliumendpoints/**/*.yaml") if "4095" in path.read_text()
    ] == []
    assert cluster.first.get("/v1/status")["datapath"]["programs"] == 4 + len(others)


@pytest.mark.usefixtures("servers")
def test_ingress_by_entity_and_port(cluster: Cluster) -> None:
    first, second, world = cluster.first.place, cluster.second.place, cluster.world
    assert reaches(world, FIRST, SHUT) == YES

    apply(cluster, rule("ingress", entity("world")))

    assert (reaches(world, FIRST, OPEN), reaches(world, FIRST, SHUT)) == (YES, NO)
    assert reaches(second, FIRST, OPEN) == NO
    assert reaches(cluster.a, FIRST, OPEN) == NO
    assert reaches(cluster.far, FIRST, OPEN) == NO
    assert reaches(first, WORLD, SHUT) == YES  # egress is open, and its answers are let in
    assert reaches(first, SECOND, SHUT) == NO  # by that node's ingress
    assert reaches(first, cluster.a.addresses, SHUT) == YES
    assert reaches(first, cluster.far.addresses, SHUT) == YES
    assert reaches(cluster.a, cluster.far.addresses, SHUT) == YES  # the tunnel is nobody's peer
    assert reaches(first, FIRST, SHUT) == YES  # by its own loopback
    assert pings(world, FIRST) == NO

    apply(cluster, rule("ingress", entity("remote-node", "cluster")))
    assert reaches(world, FIRST, OPEN) == NO
    for source in (second, cluster.a, cluster.far):
        assert (reaches(source, FIRST, OPEN), reaches(source, FIRST, SHUT)) == (YES, NO)

    remove(cluster)
    assert reaches(world, FIRST, SHUT) == YES


@pytest.mark.usefixtures("servers")
def test_egress_by_entity_and_port(cluster: Cluster) -> None:
    first, second, world = cluster.first.place, cluster.second.place, cluster.world

    apply(cluster, rule("egress", entity("remote-node")))

    assert (reaches(first, SECOND, OPEN), reaches(first, SECOND, SHUT)) == (YES, NO)
    assert reaches(first, WORLD, OPEN) == NO
    assert reaches(first, cluster.a.addresses, OPEN) == NO
    assert reaches(first, cluster.far.addresses, OPEN) == NO
    assert reaches(world, FIRST, SHUT) == YES
    assert reaches(cluster.a, FIRST, SHUT) == YES
    assert reaches(cluster.far, cluster.a.addresses, SHUT) == YES
    assert reaches(cluster.a, WORLD, SHUT) == YES  # not what the host sends

    apply(cluster, rule("egress", pods(app="far")))
    assert (reaches(first, cluster.far.addresses, OPEN), reaches(first, cluster.far.addresses, SHUT)) == (YES, NO)
    assert (reaches(first, cluster.a.addresses, OPEN), reaches(second, FIRST, OPEN)) == (NO, NO)


@pytest.mark.usefixtures("servers")
def test_ingress_by_the_labels_of_pods(cluster: Cluster) -> None:
    apply(cluster, rule("ingress", pods(app="far"), pods(app="near")))

    assert reaches(cluster.far, FIRST, OPEN) == YES
    assert reaches(cluster.near, FIRST, OPEN) == YES
    assert reaches(cluster.a, FIRST, OPEN) == NO
    assert reaches(cluster.world, FIRST, OPEN) == NO


@pytest.mark.usefixtures("servers")
def test_deny_rules_and_the_switch_of_default_deny(cluster: Cluster) -> None:
    first, second, world = cluster.first.place, cluster.second.place, cluster.world

    apply(cluster, {"enableDefaultDeny": {"ingress": False}, **rule("ingressDeny", entity("world"))})
    assert (reaches(world, FIRST, OPEN), reaches(world, FIRST, SHUT)) == (NO, YES)
    assert reaches(second, FIRST, SHUT) == YES

    apply(cluster, rule("ingressDeny", entity("world")))
    assert (reaches(second, FIRST, SHUT), reaches(first, WORLD, SHUT)) == (NO, YES)


def test_icmp(cluster: Cluster) -> None:
    fields = [{"family": family, "type": "EchoRequest"} for family in ("IPv4", "IPv6")]
    apply(
        cluster, rule("ingress", entity("world"), ports=(), icmps=[{"fields": fields}]), rule("egress", entity("none"))
    )

    assert [cluster.world.ping(address, timeout_s=2.0) for address in FIRST] == YES
    assert pings(cluster.second.place, FIRST) == NO
    assert pings(cluster.first.place, WORLD) == NO
    # Neighbours find each other though nothing may be said: their entries are new.
    assert udp_refused(cluster.world, FIRST[0])


def pings(source: Place, addresses: tuple[str, ...]) -> list[bool]:
    def ask(address: str) -> bool:
        with suppress(OSError):  # what is dropped on its way out, its sender may be told of
            return source.ping(address, timeout_s=DENIED_S)
        return False

    return at_once(ask, addresses)


def udp_refused(source: Place, address: str) -> bool:
    """Whether a datagram gets no answer, not even that nobody is there."""
    with source.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DENIED_S)
        client.connect((address, SHUT))
        client.send(b"x")
        try:
            client.recv(10)
        except TimeoutError:
            return True
        except ConnectionRefusedError:
            return False
    return False


def test_datagrams_and_their_answers(cluster: Cluster) -> None:
    apply(cluster, rule("egress", entity("world"), ports=()), rule("ingress", entity("none")))

    for at, address in enumerate(WORLD):
        assert udp_there_and_back(Way("host-world", cluster.first.place, cluster.world, address), 3000)
        back = Way("world-host", cluster.world, cluster.first.place, FIRST[at])
        assert not udp_there_and_back(back, 100, timeout_s=DENIED_S)
    assert udp_there_and_back(Way("far-pod", cluster.far, cluster.a, cluster.a.addresses[0]), 1000)


def test_a_live_connection_is_cut(cluster: Cluster) -> None:
    """In both directions, and whoever has begun it."""
    apply(cluster, rule("ingress", entity("world")))
    for begins, listens, address in (
        (cluster.world, cluster.first.place, FIRST[0]),
        (cluster.world, cluster.first.place, FIRST[1]),
        (cluster.first.place, cluster.world, WORLD[0]),
    ):
        with Talk(begins, listens, address) as (client, server):
            client.send(b"1")
            assert server.recv(8) == b"1"
            server.send(b"2")
            assert client.recv(8) == b"2"
            apply(cluster, rule("ingress", entity("remote-node")), rule("egress", entity("remote-node")))
            for sends, hears in ((client, server), (server, client)):
                sends.send(b"x")
                hears.settimeout(DENIED_S)
                with pytest.raises(TimeoutError):
                    hears.recv(8)
            apply(cluster, rule("ingress", entity("world")))
            for hears in (client, server):  # what was sent in vain is sent again
                hears.settimeout(10.0)
                assert hears.recv(8) == b"x"


class Talk:
    """A connection: the socket of who began, and the other."""

    def __init__(self, begins: Place, listens: Place, address: str) -> None:
        self._listener = listens.listen(OPEN)
        self._client = begins.connect(address, OPEN)
        self._listener.settimeout(3.0)
        self._server, _ = self._listener.accept()

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        return self._client, self._server

    def __exit__(self, *_: object) -> None:
        for each in (self._client, self._server):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for each in (self._client, self._server, self._listener):
            each.close()


@pytest.mark.usefixtures("servers")
def test_a_label_of_the_node_switches_a_policy_on_and_off(cluster: Cluster) -> None:
    world = cluster.world
    edge = {"matchLabels": {"role": "edge"}}
    apply(cluster, rule("ingress", entity("cluster")), selector=edge)
    assert (reaches(world, FIRST, OPEN), reaches(world, SECOND, OPEN)) == (YES, YES)

    label(cluster.second, "role", "edge")
    cluster.second.until(lambda: host(cluster.second)["policy"]["ingress"] == "enabled")
    assert host(cluster.second)["labels"] == ["node:role=edge", "reserved:host"]
    assert (reaches(world, FIRST, OPEN), reaches(world, SECOND, OPEN)) == (YES, NO)
    # It is kept by an agent that starts anew, which has no such label in its configuration.
    cluster.second.stop()
    cluster.second.start()
    assert host(cluster.second)["labels"] == ["node:role=edge", "reserved:host"]
    assert reaches(world, SECOND, OPEN) == NO

    label(cluster.second, "role", None)
    cluster.second.until(lambda: host(cluster.second)["policy"]["ingress"] == "disabled")
    assert reaches(world, SECOND, OPEN) == YES


def label(node: AgentNode, key: str, value: str | None) -> None:
    """As somebody does who edits the node's object."""
    import yaml

    path = node.store / "ciliumnodes" / f"{node.name}.yaml"
    document = yaml.safe_load(path.read_text())
    labels = document["metadata"].setdefault("labels", {})
    if value is None:
        labels.pop(key)
    else:
        labels[key] = value
    temporary = node.folder / "node.tmp"
    temporary.write_text(yaml.safe_dump(document))
    temporary.rename(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_opens_while_the_agent_starts_anew(cluster: Cluster, number: int) -> None:
    """A SYN every few milliseconds, from the end of the one to the readiness of the other: none is answered."""
    apply(cluster, rule("ingress", entity("remote-node")))
    with cluster.first.place.listen(OPEN), Knocker(cluster.world, FIRST) as knocker:
        knocker.until(20)
        assert cluster.first.stop(number) in (0, -signal.SIGKILL)
        knocker.until(knocker.sent + 20)
        cluster.first.start()
        knocker.until(knocker.sent + 20)
        assert host(cluster.first)["policy"]["ingress"] == "enabled"
    assert knocker.opened == 0
    with cluster.first.place.listen(OPEN):
        assert reaches(cluster.second.place, FIRST, OPEN) == YES


class Knocker:
    """Begins connections without end, in a thread, and counts those that are answered."""

    def __init__(self, source: Place, addresses: tuple[str, ...]) -> None:
        import threading

        self.sent = self.opened = 0
        self._source, self._addresses = source, addresses
        self._stop, self._moved = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._knock)

    def _knock(self) -> None:
        while not self._stop.is_set():
            for address in self._addresses:
                self.opened += self._source.can_connect(address, OPEN, 0.01)
            with self._moved:
                self.sent += 1
                self._moved.notify_all()

    def until(self, count: int) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: self.sent >= count, 20.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def configure(node: AgentNode, option: str) -> None:
    done = command(node, "endpoint", "config", "host", option)
    assert done.returncode == 0, done.stderr


def test_audit_mode_of_the_host_is_kept(cluster: Cluster) -> None:
    node = cluster.first
    apply(cluster, rule("ingress", entity("remote-node")))
    configure(node, "PolicyAuditMode=Enabled")
    with node.place.listen(OPEN):
        assert reaches(cluster.world, FIRST, OPEN) == YES
        node.stop()
        node.start()
        assert reaches(cluster.world, FIRST, OPEN) == YES
        configure(node, "PolicyAuditMode=Default")
        assert reaches(cluster.world, FIRST, OPEN) == NO


def test_switched_off_it_is_gone(cluster: Cluster) -> None:
    """The policy has no effect, the program at the native device's egress is gone, and so is the endpoint."""
    import json

    node = cluster.second
    apply(cluster, rule("ingress", entity("remote-node")))
    before = node.config.read_text()
    config = json.loads(before)
    config["policy"]["hostFirewall"] = False
    pins = {path.name for path in (node.bpffs / "links").iterdir()}
    assert "uplink-eth0" in pins
    try:
        node.stop()
        node.config.write_text(json.dumps(config))
        node.start()
        assert {path.name for path in (node.bpffs / "links").iterdir()} == pins - {"uplink-eth0"}
        assert HOST_ID not in [row["id"] for row in node.get("/v1/endpoints")["items"]]
        with node.place.listen(OPEN):
            assert reaches(cluster.world, SECOND, OPEN) == YES
        policy = next(row for row in node.get("/v1/policies")["items"] if row["name"] == "hosts")
        assert any("policy.hostFirewall" in notice for notice in policy["notices"])
        with node.map("cp_endpoint_v1") as slots:
            assert not any(slots.lookup_bytes(struct.pack("<I", HOST_ID)) or b"\1")
    finally:
        node.stop()
        node.config.write_text(before)
        node.start()
    with node.place.listen(OPEN):
        assert reaches(cluster.world, SECOND, OPEN) == NO


def test_a_program_that_was_taken_away_comes_back(cluster: Cluster) -> None:
    from ciliumpy.bpf.links import Link
    from ciliumpy.net import netns

    apply(cluster, rule("egress", entity("remote-node")))
    node = cluster.first

    def take_away() -> None:
        with Link.open_pinned(node.bpffs / "links" / "uplink-eth0") as link:
            link.detach()

    with cluster.world.listen(OPEN):
        assert reaches(node.place, WORLD, OPEN) == NO
        netns.run_in(node.place.fd, take_away)
        node.until((node.bpffs / "links" / "uplink-eth0").exists, 20.0)
        assert reaches(node.place, WORLD, OPEN) == NO


def test_an_address_that_comes_is_guarded_at_once(cluster: Cluster) -> None:
    from ciliumpy.net import addresses, links, netns

    node, fresh = cluster.first, "172.30.7.99"
    apply(cluster, rule("ingress", entity("remote-node")))
    with node.place.listen(OPEN), Knocker(cluster.world, (fresh,)) as knocker:
        knocker.until(5)
        device = netns.run_in(node.place.fd, links.need, "eth0").ifindex
        present = netns.run_in(node.place.fd, addresses.addresses, device)
        netns.run_in(node.place.fd, addresses.set_addresses, device, [*present, f"{fresh}/24"])
        knocker.until(knocker.sent + 30)
    assert knocker.opened == 0
    netns.run_in(node.place.fd, addresses.set_addresses, device, present)


def test_flows_name_the_host(cluster: Cluster) -> None:
    apply(cluster, rule("ingress", entity("world")))
    node = cluster.first
    with node.place.listen(OPEN):
        cluster.world.connect(FIRST[0], OPEN).close()
        assert not cluster.world.can_connect(FIRST[0], SHUT, DENIED_S)
    with cluster.world.listen(SHUT):
        node.place.connect(WORLD[0], SHUT).close()

    allowed = seen(
        node, "--to-label", "reserved:host", "--port", str(OPEN), "--type", "policy-verdict", "--verdict", "FORWARDED"
    )[-1]
    denied = seen(node, "--to-label", "reserved:host", "--port", str(SHUT), "--verdict", "DROPPED")[-1]
    sent = seen(node, "--from-label", "reserved:host", "--port", str(SHUT), "--type", "trace")[-1]

    assert (allowed["destination"]["identity"], allowed["destination"]["labels"]) == (1, ["reserved:host"])
    assert (allowed["traffic_direction"], allowed["destination"]["ID"]) == ("INGRESS", HOST_ID)
    assert [each["name"] for each in allowed["ingress_allowed_by"]] == ["hosts"]
    assert (denied["traffic_direction"], denied["drop_reason_desc"]) == ("INGRESS", "POLICY_DENIED")
    assert (sent["traffic_direction"], sent["source"]["identity"]) == ("EGRESS", 1)
    answers = [
        flow for flow in seen(node, "--from-label", "reserved:host", "--port", str(OPEN)) if flow.get("is_reply")
    ]
    assert answers[-1]["traffic_direction"] == "INGRESS"
