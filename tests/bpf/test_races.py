# SPDX-License-Identifier: Apache-2.0
"""What another CPU does in the middle of a packet: rows recycled and torn, epochs bumped between lookup and write."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import CONNTRACK, INGRESS, SHOT, Level, Node, Pod, u32
from tests.bpf.packets import TCP, UDP, Read, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
BUMP, RECYCLE, TEAR, REVOKE = 1, 2, 3, 4


@pytest.fixture
def faulty(make_node: Callable[..., Node]) -> Node:
    return make_node("faults_test")


def test_3_the_epoch_kept_is_the_one_before_the_lookups(faulty: Node, version: int) -> None:
    one, two, _ = faulty.pods
    question = udp(one.ip[version], two.ip[version], 4000, 53)
    slot, epoch = u32(two.slot), faulty.maps["cp_epepoch_v1"].lookup(u32(two.slot)).tobytes()
    faulty.fault(BUMP)  # a writer, done with its writes, bumps after this packet was judged and before its row is there
    assert faulty.pod(one, question).passed
    faulty.policy(two, INGRESS)  # what that writer wrote
    faulty.maps["cp_epepoch_v1"].update(slot, epoch)

    assert faulty.pod(one, question).reason == 133


@pytest.mark.parametrize("kind", [RECYCLE, TEAR])
def test_2_a_row_that_becomes_anothers_while_it_is_read_decides_nothing(faulty: Node, version: int, kind: int) -> None:
    one, two, three = faulty.pods
    faulty.policy(three, INGRESS, {(TCP, 80): faulty.port_class(Level(everybody=True))})
    allowed = tcp(one.ip[version], two.ip[version], 4000, 80, 16)
    foreign = tcp(one.ip[version], three.ip[version], 4000, 80, 16)
    faulty.pod(one, foreign)
    (row,) = faulty.rows(version)[1]
    faulty.forget(version)
    assert Read(faulty.pod(one, allowed).frame).eth_dst == two.mac
    faulty.fault(kind, row=row.tobytes())

    result = faulty.pod(one, allowed)

    assert result.verdict == SHOT or Read(result.frame).eth_dst == two.mac
    assert faulty.pod(one, allowed).read.eth_dst == two.mac


def test_2_deciding_anew_believes_no_foreign_row_either(faulty: Node, version: int) -> None:
    """One that began at the other end would make a question an answer."""
    one, two, _ = faulty.pods
    question = udp(two.ip[version], one.ip[version], 53, 4000)
    faulty.pod(one, udp(one.ip[version], two.ip[version], 4001, 53))
    foreign = faulty.row(version).tobytes()
    faulty.forget(version)
    assert faulty.pod(two, question).passed
    faulty.policy(one, INGRESS)
    faulty.fault(RECYCLE, row=foreign)

    assert faulty.pod(two, question).reason == 133


@pytest.mark.parametrize("past", [-20, 2])
def test_2_a_late_writer_does_not_bring_back_what_was_deleted(faulty: Node, version: int, past: int) -> None:
    """Whether it writes a row anew that is alive, or one whose time was over."""
    one, two, _ = faulty.pods
    question = udp(one.ip[version], two.ip[version], 4000, 53)
    assert faulty.pod(one, question).passed
    faulty.age(version, past)
    faulty.bump()
    faulty.fault(REVOKE)

    assert faulty.pod(one, question).passed
    assert len(faulty.rows(version)[0]) == 0


def test_2_two_cpus_on_a_tiny_map_never_see_each_others_decisions(make_node: Callable[..., Node], version: int) -> None:
    """Hundreds of flows to two pods through a table of few rows: elements are recycled all the time under readers."""
    node = make_node(sizes=dict.fromkeys(CONNTRACK[version], 64))
    one, two, three = node.pods
    program, wrong, done = node.object.programs["pod"], [], [0, 0]

    def work(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        chance = random.Random(cpu)
        flows = [
            (node.framed(tcp(one.ip[version], pod.ip[version], port, 80, 16), one.host_mac, one.mac), pod.mac)
            for port in range(3000, 3200)
            for pod in (two, three)
        ]
        ctx = bytearray(192)
        ctx[36:44] = u32(one.ifindex) * 2
        for _ in range(12000):
            frame, expected = chance.choice(flows)
            result = program.test_run(frame, ctx=bytes(ctx))
            done[cpu] += 1
            if result.retval != 7 or result.data[:6].hex(":") != expected:
                wrong.append((result.retval, result.data[:6].hex(":"), expected))

    before = os.sched_getaffinity(0)
    cpus = sorted(before)[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    threads = [threading.Thread(target=work, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert done == [12000, 12000]
    assert wrong == []


def test_2_a_port_storm_from_two_cpus_never_gets_a_wrong_verdict(make_node: Callable[..., Node], version: int) -> None:
    """Questions, answers that move rows from map to map, and what is denied, through maps of few rows.

    One takes no questions: an answer passes by its row alone, so it is dropped where that was pushed out; but one to a
    question that is denied has none, and may never find another's.
    """
    node = make_node(sizes=dict.fromkeys(CONNTRACK[version], 64))
    one, two, three = node.pods
    node.policy(one, INGRESS)
    node.policy(three, INGRESS, {(UDP, 53): node.port_class(Level(everybody=True))})
    program, wrong, passed = node.object.programs["pod"], [], [0, 0]

    def packet(pod: Pod, peer: Pod, sport: int, dport: int) -> tuple[bytes, bytes]:
        ctx = bytearray(192)
        ctx[36:44] = u32(pod.ifindex) * 2
        payload = udp(pod.ip[version], peer.ip[version], sport, dport)
        return node.framed(payload, pod.host_mac, pod.mac), bytes(ctx)

    ports = range(3000, 3200)
    storm: list[tuple[tuple[bytes, bytes], set[str]]] = []  # a packet, and who may get it; nobody: it is dropped
    for port in ports:
        storm += [
            (packet(one, two, port, 53), {two.mac}),
            (packet(two, one, 53, port), {one.mac, ""}),
            (packet(one, three, port, 53), {three.mac}),
            (packet(three, one, 53, port), {one.mac, ""}),
            (packet(one, three, port, 54), {""}),
            (packet(three, one, 54, port), {""}),
        ]

    def work(cpu: int, turn: int) -> None:
        os.sched_setaffinity(0, {cpu})
        chance = random.Random(cpu)
        for _ in range(3000):
            at = chance.randrange(0, len(storm), 2)  # a question, and what answers it, or only the former
            for (frame, ctx), wanted in storm[at : at + chance.choice((1, 2))]:
                result = program.test_run(frame, ctx=ctx)
                got = result.data[:6].hex(":") if result.retval == 7 else ""
                passed[turn] += bool(got)
                if got not in wanted:
                    wrong.append((at, got, wanted))

    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    threads = [threading.Thread(target=work, args=(cpu, turn)) for turn, cpu in enumerate(cpus)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert min(passed) > 2000, "questions pass, and answers"
    assert all(len(node.maps[name].items()[0]) > 8 for name in CONNTRACK[version])
