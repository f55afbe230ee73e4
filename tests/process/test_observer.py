# SPDX-License-Identifier: Apache-2.0
"""Hubble's API over real unix sockets: the server as hubble's clients see it, `ciliumpy observe` as its user does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from ciliumpy.api import peers
from ciliumpy.api.observer import ObserverServer
from ciliumpy.cli.__main__ import main
from ciliumpy.client.observer import Server, get_flows
from ciliumpy.flows import columns
from ciliumpy.flows.enrich import Enricher
from ciliumpy.flows.history import History
from ciliumpy.kit.clock import SystemClock
from ciliumpy.proto import health_pb2, observer_pb2
from ciliumpy.proto.flow_pb2 import FlowFilter
from tests.unit.flows import events
from tests.unit.flows.events import (
    AGGREGATE,
    ALLOWED,
    API,
    API_IP,
    DEFAULT_DENIED,
    DROP,
    FRONTEND,
    FRONTEND_IP,
    REPLY,
    TO_LOCAL,
    VISITOR,
    VISITOR_IP,
    event,
)

START = 1_700_000_000_000_000_000


class Node:
    """A node's observer, served from a loop of its own. Names every flow's time in ms since START."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.history = History(1000)
        self.socket = folder / "hubble.sock"
        self.db = events.cluster()
        self._enricher = Enricher(self.db, self.history.names)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = ObserverServer(
            self.history,
            name,
            SystemClock(),
            node_labels=("zone=a",),
            rate=lambda: 2.5,
            beside=(peers.handler(self.db),),
        )
        self._run(self._server.start(str(self.socket)))

    def add(self, *records: np.ndarray) -> None:
        rows = self._enricher.rows(events.block(*records), START)

        async def append() -> None:
            self.history.append(rows)

        self._run(append())

    def write(self, change) -> None:
        async def go() -> None:
            with self.db.write() as txn:
                change(txn)

        self._run(go())

    def close(self) -> None:
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


@contextmanager
def nodes(run_dir: Path, *names: str) -> Iterator[list[Node]]:
    """A lab as far as `observe` can see."""
    running = []
    try:
        for name in names:
            folder = run_dir / "labs/demo" / name
            folder.mkdir(parents=True)
            running.append(Node(name, folder))
            said = {"node": name, "lab": "demo", "hubbleSocket": str(folder / "hubble.sock")}
            (folder / "agent.json").write_text(json.dumps(said))
        spec = {"name": "demo", "nodes": [{"name": name} for name in names]}
        (run_dir / "labs/demo/lab.json").write_text(json.dumps(spec))
        yield running
    finally:
        for node in running:
            node.close()


def ms(number: float) -> int:
    return int(number * 1_000_000)


def denied(at: float) -> np.ndarray:
    fields = {"src_identity": VISITOR, "src_endpoint": 0, "hook": 2, "file": 7, "line": 12}
    return event(DROP, VISITOR_IP, API_IP, ktime=ms(at), reason=133, ingress=(0, 0, 0, DEFAULT_DENIED), **fields)


def opened(at: float) -> np.ndarray:
    return event(ktime=ms(at), ingress=(7, 0, 0, ALLOWED))


def answered(at: float) -> np.ndarray:
    fields = {"sport": 8080, "dport": 40000, "tcp_flags": 18, "src_endpoint": 6, "dst_endpoint": 5}
    fields |= {"src_identity": API, "dst_identity": FRONTEND}
    return event(AGGREGATE, API_IP, FRONTEND_IP, ktime=ms(at), flags=TO_LOCAL | REPLY, **fields)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with nodes(tmp_path, "n1") as (one,):
        one.add(opened(1), answered(2), denied(3))
        yield one


@pytest.fixture
def channel(node: Node) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{node.socket}") as made:
        yield made


def flows_of(channel: grpc.Channel, **fields) -> list[observer_pb2.GetFlowsResponse]:
    return list(call_of(channel, **fields))


def call_of(channel: grpc.Channel, **fields):
    method = channel.unary_stream(
        "/observer.Observer/GetFlows",
        request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
        response_deserializer=observer_pb2.GetFlowsResponse.FromString,
    )
    return method(observer_pb2.GetFlowsRequest(**fields), timeout=20)


def unary(channel: grpc.Channel, path: str, request, answer):
    method = channel.unary_unary(
        path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
    )
    return method.with_call(request, timeout=10)


def test_the_socket_is_roots_alone(node: Node) -> None:
    assert stat.S_IMODE(node.socket.stat().st_mode) == 0o600


def test_what_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "labs/demo/n1").mkdir(parents=True)
    (tmp_path / "labs/demo/n1/hubble.sock").write_text("left over")
    server = ObserverServer(History(), "n1", SystemClock())

    async def go() -> None:
        await server.start(str(tmp_path / "labs/demo/n1/hubble.sock"))
        await server.stop()

    asyncio.run(go())
    assert not (tmp_path / "labs/demo/n1/hubble.sock").exists()


def test_health_first_as_hubble_status_asks_it(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="hubble.server.Observer")
    answer, _ = unary(channel, "/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    request = health_pb2.HealthCheckRequest(service="other")
    with pytest.raises(grpc.RpcError) as refusal:
        unary(channel, "/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse)
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_is_watched_until_the_end(channel: grpc.Channel) -> None:
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    for service, state in (("", "SERVING"), ("hubble.server.Observer", "SERVING"), ("other", "SERVICE_UNKNOWN")):
        stream = watch(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert next(stream) == health_pb2.HealthCheckResponse(status=state)
        stream.cancel()


def test_status_nodes_and_namespaces(channel: grpc.Channel, node: Node) -> None:
    status, call = unary(
        channel,
        "/observer.Observer/ServerStatus",
        observer_pb2.ServerStatusRequest(),
        observer_pb2.ServerStatusResponse,
    )
    assert (status.num_flows, status.max_flows, status.seen_flows, status.flows_rate) == (5, 1000, 5, 2.5)
    assert status.uptime_ns > 0
    assert dict(call.initial_metadata())["hubble-server-version"] == "1.19.4"
    found, _ = unary(
        channel, "/observer.Observer/GetNodes", observer_pb2.GetNodesRequest(), observer_pb2.GetNodesResponse
    )
    assert [(each.name, each.seen_flows) for each in found.nodes] == [("default/n1", 5)]
    request, answer = observer_pb2.GetNamespacesRequest(), observer_pb2.GetNamespacesResponse
    assert unary(channel, "/observer.Observer/GetNamespaces", request, answer)[0] == answer()
    rows = node._enricher.rows(opened(0), SystemClock().now_ns())
    node.history.append(rows)
    names, _ = unary(channel, "/observer.Observer/GetNamespaces", request, answer)
    assert [(each.cluster, each.namespace) for each in names.namespaces] == [("default", "shop")]


def test_other_calls_are_unimplemented(channel: grpc.Channel) -> None:
    for name in ("GetAgentEvents", "GetDebugEvents"):
        request = observer_pb2.GetAgentEventsRequest()
        with pytest.raises(grpc.RpcError) as refusal:
            unary(channel, f"/observer.Observer/{name}", request, observer_pb2.GetAgentEventsResponse)
        assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_flows_with_filter_number_and_mask(channel: grpc.Channel) -> None:
    assert [r.flow.event_type.type for r in flows_of(channel)] == [5, 4, 4, 5, 1]
    assert [r.flow.event_type.type for r in flows_of(channel, number=2)] == [5, 1]
    assert [r.flow.event_type.type for r in flows_of(channel, number=(1 << 64) - 1)] == [5, 4, 4, 5, 1]
    _, drop = flows_of(channel, number=5, whitelist=[FlowFilter(verdict=[2])])
    assert drop.node_name == "default/n1"
    assert drop.time.ToNanoseconds() == START + ms(3)
    (masked,) = flows_of(channel, number=1, field_mask=FieldMask(paths=["source.pod_name", "verdict"]))
    assert masked == observer_pb2.GetFlowsResponse(flow={"source": {"pod_name": "visitor-1"}, "verdict": 2})
    assert not masked.HasField("time")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"first": True, "follow": True, "number": 1}, "first cannot be specified with follow"),
        ({"whitelist": [FlowFilter(protocol=["quic"])]}, 'unknown protocol: "quic"'),
        ({"blacklist": [FlowFilter(experimental={"cel_expression": ["x"]})]}, "experimental.cel_expression"),
        ({"field_mask": FieldMask(paths=["nothing"])}, 'no field "nothing"'),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(channel: grpc.Channel, fields, words) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        flows_of(channel, **fields)
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in refusal.value.details()


def test_following_a_filter(channel: grpc.Channel, node: Node) -> None:
    stream = call_of(channel, follow=True, number=1, whitelist=[FlowFilter(event_type=[{"type": 1}])])
    assert next(stream).time.ToNanoseconds() == START + ms(3)
    node.add(opened(4), denied(5))
    assert next(stream).time.ToNanoseconds() == START + ms(5)
    stream.cancel()


def test_losses_reach_every_reader(channel: grpc.Channel, node: Node) -> None:
    node.history.append(columns.loss(START, 8, columns.LOST_IN_KERNEL, 2))
    (lost,) = flows_of(channel, whitelist=[FlowFilter(verdict=[3])])
    assert (lost.lost_events.num_events_lost, lost.lost_events.cpu.value, lost.node_name) == (8, 2, "default/n1")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_another_user_is_told_to_be_root(node: Node) -> None:
    failed: list[tuple[str, str]] = []
    node.socket.chmod(0o600)
    os.seteuid(65534)
    try:
        server = Server("n1", str(node.socket))
        got = list(get_flows([server], observer_pb2.GetFlowsRequest(), lambda *said: failed.append(said)))
    finally:
        os.seteuid(0)
    assert got == []
    assert failed == [("n1", f"no permission for {node.socket}: run it as root (sudo)")]


def test_an_answer_does_not_wait_for_the_channel_to_close(node: Node) -> None:
    """A channel that was asked whether it is ready is polled, and takes 200 ms to close: each node's."""

    def seconds() -> float:
        began = time.monotonic()
        list(get_flows([Server("n1", str(node.socket))], observer_pb2.GetFlowsRequest(number=1), pytest.fail))
        return time.monotonic() - began

    assert min(seconds() for _ in range(5)) < 0.15


def test_a_whole_history_is_served_in_a_few_seconds(node: Node) -> None:
    for _ in range(10):
        node.add(*[answered(time) for time in range(100)])
    got = list(get_flows([Server("n1", str(node.socket))], observer_pb2.GetFlowsRequest(), pytest.fail))
    assert len(got) == 1000


FILTERED = (
    ([], [1, 1, 2, 3, 3]),
    (["--verdict", "DROPPED"], [3, 3]),
    (["--not", "--verdict", "DROPPED"], [1, 1, 2]),
    (["--label", "tier=api"], [1, 1, 2, 3, 3]),
    (["--from-label", "tier=api"], [2]),
    (["--not", "--from-label", "tier in (api)"], [1, 1, 3, 3]),
    (["--to-label", "tier=api", "--not", "--from-label", "io.kubernetes.pod.namespace=guest"], [1, 1]),
    (["--from-label", "tier=api", "--from-label", "io.kubernetes.pod.namespace=guest"], [2, 3, 3]),
    (["--identity", "1003"], [3, 3]),
    (["--from-identity", "1001", "--to-identity", "1002"], [1, 1]),
    (["--not", "--identity", "1003"], [1, 1, 2]),
    (["--ip", VISITOR_IP], [3, 3]),
    (["--from-ip", "10.244.0.0/24"], [1, 1, 2]),
    (["--not", "--to-ip", f"{API_IP}/32"], [2]),
    (["--ip", "fd00::/8"], []),
    (["--port", "8080"], [1, 1, 2, 3, 3]),
    (["--from-port", "8080"], [2]),
    (["--to-port", "8080", "--to-port", "9"], [1, 1, 3, 3]),
    (["--pod", "shop/frontend", "--port", "8080"], []),  # both of the same end
    (["--pod", "shop/api", "--port", "8080"], [1, 1, 2, 3, 3]),
    (["--protocol", "udp"], []),
    (["--protocol", "TCP"], [1, 1, 2, 3, 3]),
    (["--reply"], [2]),
    (["--not", "--reply"], [1, 1, 3, 3]),
    (["--type", "policy-verdict,drop"], [1, 3, 3]),
    (["--type", "policy-verdict"], [1, 3]),
    (["--type", "policy-verdict", "--verdict", "DROPPED"], [3]),
    (["--type", "trace:to-endpoint"], [1, 2]),
    (["--type", "drop:133"], [3]),
    (["--not", "--type", "trace"], [1, 3, 3]),
    (["--traffic-direction", "ingress"], [1, 1, 3, 3]),
    (["--tcp-flags", "syn,ack"], [2]),
    (["--tcp-flags", "syn"], [1, 1, 2, 3, 3]),
    (["--drop-reason-desc", "POLICY_DENIED"], [3, 3]),
    (["--node-name", "n1"], [1, 1, 2, 3, 3]),
    (["--node-name", "default/n*"], [1, 1, 2, 3, 3]),
    (["--not", "--node-name", "n1"], []),
    (["--node-label", "zone=b"], []),
    (["--node-label", "zone in (a,c)"], [1, 1, 2, 3, 3]),
    (["--ip-version", "v6"], []),
    (["--not", "-6"], [1, 1, 2, 3, 3]),
    (["--unencrypted"], [1, 1, 2, 3, 3]),
    (["--encrypted"], []),
    (["--interface", "9999"], []),
    (["--cluster", "default"], [1, 1, 2, 3, 3]),
    (["--not", "--cluster", "default"], []),
    (["-n", "guest"], [3, 3]),
    (["--not", "-n", "guest"], [1, 1, 2]),
    (["-A", "--from-pod", "visitor"], None),  # they contradict each other
    (["--from-all-namespaces", "--from-pod", "visitor"], [3, 3]),
    (["--allowlist", '{"reply":[true]}', "--allowlist", '{"verdict":["DROPPED"]}'], [2, 3, 3]),
    (["--first", "1"], [1]),
    (["--last", "1", "--not", "--verdict", "DROPPED"], [2]),
    (["--since", "2023-11-14T22:13:20.002Z"], [2, 3, 3]),
    (["--until", "2023-11-14T22:13:20.0015Z"], [1, 1]),
    (["--since", "2023-11-14T22:13:20.0015Z", "--until", "2023-11-14T22:13:20.002Z"], [2]),
    (["-f", "--all", "--until", "2023-11-14T22:13:20.002Z"], [1, 1, 2]),
)


def test_every_filter_against_a_server(tmp_path: Path, node: Node, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))
    for arguments, wanted in FILTERED:
        code = main(["observe", "-o", "json", *arguments])
        said = capsys.readouterr()
        assert code == (2 if wanted is None else 0), (arguments, said.err)
        times = [json.loads(line)["time"] for line in said.out.splitlines()]
        assert [int(text[-5:-1].lstrip("0.")) for text in times] == (wanted or []), arguments


# Several nodes.


def milliseconds(responses) -> list[float]:
    return [(each.time.ToNanoseconds() - START) / 1e6 for each in responses]


def test_nodes_are_merged_by_time_and_a_silent_one_is_named(tmp_path: Path) -> None:
    failed: list[tuple[str, str]] = []
    with nodes(tmp_path, "n1", "n2") as (one, two):
        one.add(answered(1), answered(4), answered(5))
        two.add(answered(2), answered(3), answered(6))
        servers = [Server(each.name, str(each.socket)) for each in (one, two)]
        servers.append(Server("n3", str(tmp_path / "nobody.sock")))

        def ask(**fields) -> list[float]:
            request = observer_pb2.GetFlowsRequest(**fields)
            return milliseconds(get_flows(servers, request, lambda *said: failed.append(said)))

        assert ask() == [1, 2, 3, 4, 5, 6]
        assert failed == [("n3", "the agent is not running")]
        assert ask(number=3) == [4, 5, 6]
        assert ask(number=3, first=True) == [1, 2, 3]
        stream = get_flows(servers, observer_pb2.GetFlowsRequest(follow=True, number=3), lambda *_: None)
        assert milliseconds(next(stream) for _ in range(6)) == [1, 2, 3, 4, 5, 6]
        two.add(answered(8))
        assert milliseconds([next(stream)]) == [8]
        stream.close()


# The command.


def observe(run_dir: Path, *arguments: str, code: int = 0, stdin: str = "") -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ciliumpy.cli", "observe", *arguments],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(run_dir)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


DENIED_LINE = "guest/visitor-1:40000 (ID:1003) <> shop/api-1:8080 (ID:1002) Policy denied DROPPED (TCP Flags: SYN)"


def test_the_drop_that_a_user_looks_for(tmp_path: Path, node: Node) -> None:
    out, err = observe(tmp_path, "--from-pod", "guest/visitor", "-t", "drop", "-o", "jsonpb")
    flow = json.loads(out)["flow"]
    assert err == ""
    assert (flow["source"]["namespace"], flow["source"]["pod_name"]) == ("guest", "visitor-1")
    assert (flow["destination"]["pod_name"], flow["destination"]["identity"]) == ("api-1", 1002)
    assert flow["l4"]["TCP"]["destination_port"] == 8080
    assert flow["drop_reason_desc"] == "POLICY_DENIED"
    assert "k8s:app=visitor" in flow["source"]["labels"]
    assert observe(tmp_path, "--to-pod", "shop/api", "-t", "drop")[0].endswith(f": {DENIED_LINE}\n")
    named = observe(tmp_path, "-t", "policy-verdict", "--print-policy-names", "--print-node-name")[0]
    start = "[default/n1]: shop/frontend-1:40000 (ID:1001) -> shop/api-1:8080 (ID:1002) "
    assert f"{start}policy-verdict:L3-L4 INGRESS ALLOWED BY api-from-frontend (CiliumNetworkPolicy)" in named
    denied = "guest/visitor-1:40000 (ID:1003) <> shop/api-1:8080 (ID:1002) policy-verdict:none INGRESS DENIED"
    assert denied in observe(tmp_path, "-t", "policy-verdict", "--verdict", "DROPPED")[0]
    assert observe(tmp_path, "-n", "nowhere") == ("", "")
    assert len(observe(tmp_path, "--last", "2", "--since", "876000h")[0].splitlines()) == 2


def test_a_filter_that_is_not_supported_is_an_error_without_traceback(tmp_path: Path, node: Node) -> None:
    raw = '{"experimental":{"cel_expression":["true"]}}'
    out, err = observe(tmp_path, "--allowlist", raw, code=2)
    assert out == ""
    assert err == "Error: the filter field experimental.cel_expression is not supported\n"


def test_a_node_that_is_down_is_a_line_and_the_others_are_shown(tmp_path: Path) -> None:
    with nodes(tmp_path, "n1", "n2") as (one, two):
        one.add(denied(1))
        two.close()
        out, err = observe(tmp_path, code=1)
        assert out.endswith(f"{DENIED_LINE}\n")
        assert err == "Error: node n2: the agent is not running\n"
        two.close = lambda: None  # type: ignore[method-assign]


def test_following_ends_quietly_with_an_interrupt(tmp_path: Path, node: Node) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "ciliumpy.cli", "observe", "-f", "--last", "1", "--type", "drop"],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().endswith(f"{DENIED_LINE}\n")
        node.add(denied(9))
        assert child.stdout.readline().endswith(f"{DENIED_LINE}\n")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
        assert (out, err, child.returncode) == ("", "", 130)
    finally:
        child.kill()
        child.communicate()
