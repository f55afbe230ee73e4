# SPDX-License-Identifier: Apache-2.0
"""What user space hears: first packets, drops, new TCP flags, every five seconds, the end; and what it does not."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import AGGREGATE, CLOSE, DROP, EGRESS, FLOW, INGRESS, IS_REPLY, REPLY_UNKNOWN, Node, u32
from tests.bpf.packets import ACK, FIN, PSH, RST, SYN, TCP, echo, icmp, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root


@pytest.fixture
def one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_a_connection_from_first_to_last(node: Node, version: int) -> None:
    one, two, _ = node.pods
    there, back = (one.ip[version], two.ip[version], 4000, 80), (two.ip[version], one.ip[version], 80, 4000)
    steps = [
        (one, there, SYN, [FLOW]),
        (two, back, SYN | ACK, [AGGREGATE]),
        (one, there, ACK, []),
        (one, there, ACK | PSH, []),
        (two, back, ACK | PSH, []),
        (one, there, ACK | FIN, [AGGREGATE]),
        (two, back, ACK | FIN, [CLOSE]),
        (one, there, ACK, []),
    ]
    length = len(tcp(*there, ACK))
    seen = [node.pod(pod, tcp(*ends, flags)) for pod, ends, flags, _ in steps]

    assert [one.types for one in seen] == [expected for *_, expected in steps]
    close = seen[6].events[0]
    assert list(close["packets"]) == [4, 3]
    assert list(close["bytes"]) == [4 * length, 3 * length]
    assert close["tcp_flags"] == ACK | FIN
    assert close["flags"] & IS_REPLY


def test_a_reset_closes_at_once(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, SYN))

    assert node.pod(two, tcp(two.ip[version], one.ip[version], 80, 4000, RST | ACK)).types == [CLOSE]


def test_every_five_seconds_per_direction(node: Node, version: int) -> None:
    one, two, _ = node.pods
    question = udp(one.ip[version], two.ip[version], 4000, 53)
    answer = udp(two.ip[version], one.ip[version], 53, 4000)
    assert node.pod(one, question).types == [FLOW]
    assert node.pod(two, answer).types == [AGGREGATE]  # the first answer is news
    assert node.pod(one, question).types == []
    (key,), (row,) = node.rows(version)
    row["reported"] = [node.now() - 5, node.now() - 2]
    node.maps[f"cp_ct{version}_v1"].update(key.tobytes(), row.tobytes())

    result = node.pod(one, question)

    assert result.types == [AGGREGATE]
    assert list(result.events[0]["packets"]) == [3, 1]
    assert node.pod(two, answer).types == []


def test_one_drop_one_event_and_nothing_else(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS)

    for number in range(3):
        result = node.pod(one, udp(one.ip[version], two.ip[version], 4000, 53))
        assert result.types == [DROP]
        event = result.events[0]
        assert (event["ifindex"], event["hook"], event["file"]) == (one.ifindex, 1, 7)
        assert event["line"] > 0
        assert event["flags"] & IS_REPLY == 0
        assert node.metric(133, INGRESS) == number + 1


def test_nobody_knows_whether_a_rowless_ack_is_a_reply(node: Node, version: int) -> None:
    one, two, _ = node.pods

    result = node.pod(one, tcp(one.ip[version], two.ip[version], 80, 4000, ACK))

    assert result.events[0]["flags"] & REPLY_UNKNOWN


def test_records_are_numbered_also_when_there_is_no_room(node: Node) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS)
    program = node.object.programs["pod"]
    frame = node.framed(udp(one.ip[4], two.ip[4], 4000, 53), one.host_mac, one.mac)
    ctx = bytearray(192)
    ctx[36:44] = u32(one.ifindex) * 2

    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # each CPU has a ring, and its gaps are found with its next event
    try:
        program.test_run(frame, ctx=bytes(ctx), repeat=1000)  # a ring of 64 KiB has room for 511
        events = node.rings.consume()
        after = node.pod(one, udp(one.ip[4], two.ip[4], 4000, 53))
    finally:
        os.sched_setaffinity(0, cpus)

    assert len(events) == 511
    state = node.maps["cp_evstate_v1"].lookup(u32(0))
    assert int(state["lost"].sum()) == 1000 - 511
    assert int(state["seq"].sum()) == 1001
    assert len(after.events) == 1
    assert node.rings.lost == 1000 - 511


def test_drop_events_are_limited_and_the_rest_is_counted(make_node: Callable[..., Node]) -> None:
    node = make_node(cfg_event_rate=1, cfg_event_burst=10)
    one, two, _ = node.pods
    node.policy(two, INGRESS)
    frame = node.framed(udp(one.ip[4], two.ip[4], 4000, 53), one.host_mac, one.mac)
    ctx = bytearray(192)
    ctx[36:44] = u32(one.ifindex) * 2
    node.object.programs["pod"].test_run(frame, ctx=bytes(ctx), repeat=200)

    told = len(node.rings.consume())
    held_back = int(node.maps["cp_evstate_v1"].lookup(u32(0))["held_back"].sum())

    assert told in {10, 11, 12}  # a second may begin, or the run move to the other CPU
    assert told + held_back == 200
    assert node.metric(133, INGRESS) == 200
    assert node.pod(two, tcp(two.ip[4], one.ip[4], 1, 2, SYN)).types == [FLOW]  # flows are not limited


def test_answers_that_belong_to_no_flow_are_limited_as_drops_are(make_node: Callable[..., Node]) -> None:
    node = make_node(cfg_event_rate=1, cfg_event_burst=10)
    one, two, _ = node.pods
    ctx = bytearray(192)
    ctx[36:44] = u32(one.ifindex) * 2
    for answer in (echo(one.ip[4], two.ip[4], 7, answer=True, ttl=255), icmp(one.ip[4], two.ip[4], 14, ttl=255)):
        frame = node.framed(answer, one.host_mac, one.mac)
        node.object.programs["pod"].test_run(frame, ctx=bytes(ctx), repeat=200)
    told = node.rings.consume()
    held_back = int(node.maps["cp_evstate_v1"].lookup(u32(0))["held_back"].sum())
    assert 10 <= len(told) <= 24  # of the same bucket; a second may begin, or the run move to the other CPU
    assert len(told) + held_back == 400
    assert set(told["type"].tolist()) == {FLOW}
    assert node.pod(two, tcp(two.ip[4], one.ip[4], 1, 2, SYN)).types == [FLOW]


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize(("rate", "burst", "ring_has_room"), [(1000, 50, True), (30_000, 4000, False), (0, 1, False)])
def test_a_storm_of_drops_is_told_to_the_limit_and_counted_to_the_last(
    make_node: Callable[..., Node], rate: int, burst: int, ring_has_room: bool
) -> None:
    """Whatever the bucket, the ring and the clock do, nothing is uncounted."""
    node = make_node(cfg_event_rate=rate, cfg_event_burst=burst)
    one, two, _ = node.pods
    node.policy(two, INGRESS)
    frame = node.framed(udp(one.ip[4], two.ip[4], 4000, 53), one.host_mac, one.mac)
    ctx = bytearray(192)
    ctx[36:44] = u32(one.ifindex) * 2
    rounds, each, told = 50, 200, 0
    began = time.monotonic()
    for number in range(rounds):
        node.object.programs["pod"].test_run(frame, ctx=bytes(ctx), repeat=each)
        if ring_has_room or number % 10 == 9:
            told += len(node.rings.consume())
    took_s = time.monotonic() - began

    state = node.maps["cp_evstate_v1"].lookup(u32(0))
    held_back, lost = (int(state[field].sum()) for field in ("held_back", "lost"))
    assert told + held_back + lost == rounds * each == node.metric(133, INGRESS)
    assert (lost == 0) == ring_has_room
    if rate:
        assert min(burst, rounds * each) <= told + lost <= rate * took_s + burst
    else:
        assert held_back == 0


@pytest.mark.usefixtures("one_cpu")
def test_readers_are_woken_once_a_quarter(node: Node) -> None:
    import select

    one, two, _ = node.pods
    node.policy(two, INGRESS)
    frame = node.framed(udp(one.ip[4], two.ip[4], 4000, 53), one.host_mac, one.mac)
    ctx = bytearray(192)
    ctx[36:44] = u32(one.ifindex) * 2
    with select.epoll() as poll:
        for fd in node.rings.filenos:
            poll.register(fd, select.EPOLLIN | select.EPOLLET)
        poll.poll(0)
        node.object.programs["pod"].test_run(frame, ctx=bytes(ctx), repeat=100)
        assert poll.poll(0.05) == []
        node.object.programs["pod"].test_run(frame, ctx=bytes(ctx), repeat=60)
        assert len(poll.poll(1)) == 1


def test_forwarded_packets_are_counted_by_direction(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.pod(one, udp(one.ip[version], two.ip[version], 4000, 53))
    node.host(udp({4: "10.244.1.1", 6: "fd00:10:244:1::1"}[version], one.ip[version], 4000, 53))

    assert (node.metric(0, EGRESS), node.metric(0, INGRESS)) == (1, 1)


def test_flags_that_are_no_state_are_no_news(node: Node, version: int) -> None:
    one, two, _ = node.pods
    ends = (one.ip[version], two.ip[version], 4000, 80)
    node.pod(one, tcp(*ends, SYN))
    node.pod(one, tcp(*ends, ACK))

    assert node.pod(one, tcp(*ends, ACK | PSH | 0x20)).types == []
    assert int(node.row(version)["protocol"]) == TCP


@pytest.mark.usefixtures("one_cpu")
def test_a_shared_counter_counts_for_its_last_owner(make_node: Callable[..., Node], version: int) -> None:
    node = make_node(cfg_counters=1)
    one, two, _ = node.pods
    first, second = (udp(one.ip[version], two.ip[version], port, 53) for port in (4000, 4001))
    for packet in (first, first, first, second, second):
        assert node.pod(one, packet).passed

    (counter,) = [cpu for cpu in node.maps["cp_counter_v3"].lookup(u32(0)) if cpu["flow"]]
    assert list(counter["packets"]) == [2, 0]
    assert counter["flow"] == max(row["flow"] for row in node.rows(version)[1])
