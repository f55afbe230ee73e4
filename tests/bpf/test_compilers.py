# SPDX-License-Identifier: Apache-2.0
"""Both objects of every compiler that is here load, and judge a handful of packets as they shall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf import build
from tests.bpf.node import (
    AGGREGATE,
    DROP,
    EGRESS,
    FAR,
    FLOW,
    INGRESS,
    NEXT,
    OK,
    OWN_NODE,
    REDIRECT,
    ROUTER,
    SHOT,
    WORLD,
    Level,
    Node,
    Result,
)
from tests.bpf.packets import ACK, SYN, TCP, arp_request, neighbour_solicitation, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bpf.pool import Pool

pytestmark = pytest.mark.root

CLANGS = build.installed_clangs()
BIT = 900  # not in the first words


@pytest.fixture(scope="module", params=sorted(CLANGS), ids=lambda number: f"clang-{number}")
def compiler(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module", params=("datapath", "datapath_wide"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(compiler: int, name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object of that compiler."""
    target = tmp_path_factory.getbasetemp() / f"{name}-clang-{compiler}.o"
    if not target.exists():
        build.compile_object(build.SOURCES / f"{name}.bpf.c", target, clang=CLANGS[compiler])
    return target


@pytest.fixture
def compiled(target: Path, devices: dict[str, int], pool: Pool) -> Iterator[Node]:
    """A node whose object is of that compiler; both families use the one."""
    node = Node(pool, target, devices)
    try:
        yield node
    finally:
        node.close()


def told(result: Result) -> tuple[int, int, list[int]]:
    return result.verdict, result.reason, result.types


def test_it_judges_as_it_shall(compiled: Node, version: int) -> None:
    node = compiled
    one, two, three = node.pods
    a, b, c = (pod.ip[version] for pod in node.pods)
    node.vector(1000, BIT)
    node.policy(two, INGRESS, {(TCP, 80): node.port_class(Level(bits=(BIT,)))})
    node.policy(three, EGRESS, {}, default=node.port_class(Level(everybody=True)))
    world, own, far = WORLD[version], OWN_NODE[version], FAR[version]
    asked = tcp(a, b, 4000, 80, SYN)

    first = node.pod(one, asked)
    assert (told(first), first.read.eth_dst, first.read.ttl) == ((REDIRECT, 0, [FLOW]), two.mac, 63)
    assert told(node.pod(two, tcp(b, a, 80, 4000, SYN | ACK))) == (REDIRECT, 0, [AGGREGATE])
    assert told(node.pod(one, tcp(a, b, 4000, 80, ACK))) == (REDIRECT, 0, [])
    assert told(node.pod(two, unreachable(b, a, asked)))[:2] == (REDIRECT, 0)
    assert told(node.pod(one, tcp(a, b, 4000, 81, SYN))) == (SHOT, 133, [DROP])
    assert told(node.pod(three, tcp(c, b, 4000, 80, SYN))) == (SHOT, 133, [DROP])
    assert told(node.pod(one, tcp(c, b, 4000, 80, SYN))) == (SHOT, 132, [DROP])
    assert told(node.pod(three, udp(c, a, 4000, 53))) == (REDIRECT, 0, [FLOW])
    for target in (far, world):
        assert told(node.pod(one, udp(a, target, 4000, 53))) == (REDIRECT, 0, [FLOW])
    assert told(node.pod(one, udp(a, own, 4000, 53))) == (OK, 0, [FLOW])
    assert told(node.netdev(udp(world, a, 4000, 53))) == (REDIRECT, 0, [FLOW])
    assert told(node.netdev(udp(world, own, 4000, 53))) == (NEXT, 0, [])
    assert told(node.netdev(udp(c, a, 4000, 53)))[:2] == (SHOT, 132)
    assert told(node.host(udp(ROUTER[version], a, 4000, 53))) == (REDIRECT, 0, [FLOW])
    assert node.run("pod", arp_request(one.mac, one.ip[4], ROUTER[4]), one.ifindex).verdict == REDIRECT
    asks = neighbour_solicitation(one.mac, one.ip[6], ROUTER[6])
    assert node.run("pod", asks, one.ifindex).verdict == REDIRECT

    node.policy(two, INGRESS)
    node.bump()
    assert told(node.pod(one, tcp(a, b, 4000, 80, ACK))) == (SHOT, 133, [DROP])


def test_what_the_verifier_walks(
    compiler: int, name: str, compiled: Node, record_property: Callable[[str, object], None]
) -> None:
    """An upper bound for each program. The figures themselves are kept and compared by tests/kernels."""
    walked = {name: program.instructions for name, program in compiled.object.programs.items()}
    record_property("instructions", [f"clang-{compiler}{name.removeprefix('datapath')}", walked])
    within(walked, LIMITS)


def test_what_the_verifier_walks_where_the_host_is_an_endpoint(
    target: Path, devices: dict[str, int], pool: Pool
) -> None:
    node = Node(pool, target, devices, cfg_host_firewall=1)
    try:
        within({name: program.instructions for name, program in node.object.programs.items()}, LIMITS)
    finally:
        node.close()


def within(walked: dict[str, int], limits: dict[str, int]) -> None:
    assert set(walked) == set(limits)
    for name, count in walked.items():
        assert count <= limits[name], f"{name}: {count:,}"


# A third of what the verifier takes (1,000,000), so that there is room. Linux 6.1 walks also what constants switch off.
LIMITS = dict.fromkeys(("pod", "overlay", "host", "netdev", "uplink"), 333_000) | {"clock": 100}
