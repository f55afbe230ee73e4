# SPDX-License-Identifier: Apache-2.0
"""More selectors than vectors have bits: the wide programs take over under traffic, and nobody notices."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ciliumpy.bpf import sys
from ciliumpy.bpf.links import Link
from ciliumpy.bpf.names import NARROW, WIDE
from ciliumpy.datapath.loader import OBJECTS
from ciliumpy.net import netns
from tests.soak import SOAK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .agent_node import AgentNode, Pod

pytestmark = pytest.mark.root
PORT = 9000
DEATHS = [("loaded", "tcx"), ("attach:2", "clsact"), ("unpinned:1", "tcx")]
MORE_PLACES = ("copied", "attach:0", "attach:2", "attach:3", "attach:5", "swapped", "unpinned:0", "forgotten")
if SOAK:
    DEATHS += [(place, "tcx") for place in MORE_PLACES]


def policy(name: str, subject: str, *peers: str) -> dict[str, Any]:
    """Allow only these to a subject."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": subject}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"app": peer}} for peer in peers]}],
        },
    }


def crowd(first: int, last: int) -> list[dict[str, Any]]:
    """Policies for the server that name so many selectors, none of which anybody here meets."""
    return [
        policy(f"crowd-{at}", "server", *(f"peer-{number}" for number in range(at, min(at + 100, last))))
        for at in range(first, last, 100)
    ]


class Numbered:
    """Numbered datagrams from one pod to another, some five hundred a second, each a new flow: each is judged."""

    def __init__(self, source: Pod, target: Pod) -> None:
        self.sent, self.arrived = 0, set[int]()
        self._server = target.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._server.bind((target.addresses[0], 0))
        self._server.settimeout(0.3)
        self._end = threading.Event()
        where = self._server.getsockname()
        self._threads = [
            threading.Thread(target=self._receive),
            threading.Thread(target=self._send, args=(source, where)),
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, source: Pod, where: tuple[str, int]) -> None:
        def inside() -> None:
            while not self._end.is_set():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
                    fresh.sendto(struct.pack("!I", self.sent), where)
                self.sent += 1
                time.sleep(0.002)

        netns.run_in(source.fd, inside)

    def _receive(self) -> None:
        while True:
            try:
                self.arrived.add(struct.unpack("!I", self._server.recv(64))[0])
            except TimeoutError:
                if self._end.is_set():
                    return

    def stop(self) -> int:
        """End it; return how many were sent and have not arrived."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._server.close()
        return self.sent - len(self.arrived)


def pins(node: AgentNode) -> set[str]:
    return {one.name for one in (node.bpffs / "maps").iterdir()} & {*NARROW.maps, *WIDE.maps}


def bits(node: AgentNode) -> tuple[int, int]:
    said = node.get("/v1/status")["policy"]
    return said["bits"], said["bitsTotal"]


def named(node: AgentNode, text: str) -> int:
    """The bit of the selector with that text; 0 if there is none."""
    rows = [item["row"] for item in node.get("/v1/statedb/selector-bits")["items"]]
    return next((int(row["bit"]) for row in rows if text in row["selector"]), 0)


def wide(node: AgentNode) -> bool:
    return pins(node) == {*WIDE.maps}


def links(node: AgentNode) -> set[str]:
    """The names of what is pinned as attached."""
    return {one.name for one in (node.bpffs / "links").iterdir()}


def running(node: AgentNode) -> set[str]:
    """Those of them whose program asks the wide class map."""
    with node.map(WIDE.classes) as asked:
        found = set()
        for name in links(node):
            with Link.open_pinned(node.bpffs / "links" / name) as link:
                fd = sys.fd_by_id(sys.Command.PROG_GET_FD_BY_ID, link.program_id)
            try:
                if asked.id in sys.program_maps(fd):
                    found.add(name)
            finally:
                os.close(fd)
    return found


def settled(node: AgentNode) -> bool:
    return bool(node.health() == "ok" and not node.get("/v1/status")["policy"]["pending"])


@contextlib.contextmanager
def traffic(node: AgentNode) -> Iterator[list[Numbered]]:
    """An allowed, a forbidden and a free flow."""
    server, client, other, free = (node.add(name) for name in ("server", "client", "other", "free"))
    node.apply("base", policy("base", "server", "client"))
    node.until(lambda: node.policy_in_force("server"))
    made = [Numbered(client, server), Numbered(other, server), Numbered(client, free)]
    try:
        yield made
    finally:
        for one in made:
            one.stop()


def check(node: AgentNode, flows: list[Numbered]) -> None:
    """Nothing was lost, nothing forbidden came; and what a selector above the 1,024th says holds."""
    allowed, forbidden, free = flows
    for one in flows:
        before = one.sent
        node.until(lambda one=one, before=before: one.sent > before + 20)
    lost = [allowed.stop(), free.stop()]
    forbidden.stop()
    assert lost == [0, 0], (allowed.sent, free.sent)
    assert allowed.sent > 200
    assert forbidden.arrived == set()
    assert forbidden.sent > 200

    late = node.add("late")
    server = node.pods["server"]
    with server.listen(8080):
        assert not late.can_connect(server.addresses[0], 8080, 0.2)
        node.apply("late", policy("late", "server", "late"))
        number = node.until(lambda: named(node, "app=late"))
        assert number >= NARROW.bits
        node.until(lambda: late.can_connect(server.addresses[0], 8080, 0.2))
        assert node.pods["client"].can_connect(server.addresses[1], 8080)
        assert not node.pods["other"].can_connect(server.addresses[0], 8080, 0.2)
        node.delete("late")
        node.until(lambda: not late.can_connect(server.addresses[0], 8080, 0.2))
    assert "Traceback" not in node.log()


def test_more_selectors_than_bits(node: AgentNode) -> None:
    with traffic(node) as flows:
        node.apply("crowd", *crowd(0, 900))
        node.until(lambda: settled(node) and bits(node)[0] > 900)
        assert (bits(node)[1], pins(node)) == (1024, {*NARROW.maps})

        node.apply("crowd", *crowd(0, 1300))
        node.until(lambda: settled(node) and wide(node) and bits(node)[0] > 1300, 20.0)
        assert bits(node)[1] == 4096
        assert links(node) == running(node), "no hook was left behind"
        job = next(job for job in node.get("/v1/status")["jobs"] if job["name"].endswith("programs"))
        assert "put back" not in job["message"], "nor put right by who goes round all hooks"
        node.stop(signal.SIGKILL)
        node.start()
        assert (bits(node)[1], wide(node)) == (4096, True), "who was wide starts wide"
        check(node, flows)

    node.apply("more", *crowd(2000, 5000))
    node.until(lambda: node.health() == "degraded", 20.0)
    problems = [each["message"] for each in node.get("/v1/status")["problems"]]
    assert any("of this node's 4096 bits are free" in each for each in problems), problems
    server, client, other = (node.pods[name] for name in ("server", "client", "other"))
    with server.listen(8080):
        assert client.can_connect(server.addresses[0], 8080), "refused whole: what was in force is"
        assert not other.can_connect(server.addresses[0], 8080, 0.2)
    node.delete("more")
    node.until(lambda: settled(node), 20.0)


@pytest.mark.parametrize(("place", "attach"), DEATHS)
def test_killed_on_the_way(
    make_node: Callable[..., AgentNode], place: str, attach: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent dies between the two widths, with hooks of either kind. The next one goes on."""
    node = make_node(network={"attach": attach})
    monkeypatch.setenv("CPT_DIE_AT", place)
    node.start(program=("-m", "tests.process.dying_swap"))
    with traffic(node) as flows:
        node.apply("crowd", *crowd(0, 1300))
        assert node.process is not None
        assert node.process.wait(20) == -signal.SIGKILL
        before = flows[0].sent
        node.until(lambda: flows[0].sent > before + 50)
        node.start()
        node.until(lambda: settled(node) and wide(node) and bits(node)[0] > 1300, 20.0)
        assert bits(node)[1] == 4096
        check(node, flows)


def test_without_wide_programs_what_needs_them_is_refused(make_node: Callable[..., AgentNode], tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    shutil.copytree(OBJECTS, objects)
    (objects / "datapath_wide.o").write_bytes(b"no object")
    node = make_node(paths={"objects": str(objects)})
    node.start()
    server, client = node.add("server"), node.add("client")
    node.apply("base", policy("base", "server", "client"))
    node.until(lambda: node.policy_in_force("server"))
    node.apply("crowd", *crowd(0, 1300))
    node.until(lambda: node.health() == "degraded", 20.0)
    problems = [each["message"] for each in node.get("/v1/status")["problems"]]
    assert any("there cannot be 4096: " in each and "datapath_wide.o" in each for each in problems), problems
    assert pins(node) == {*NARROW.maps}
    with server.listen(8080):
        assert client.can_connect(server.addresses[0], 8080), "the former policy stays in force"
    node.delete("crowd")
    node.until(lambda: not node.get("/v1/status")["problems"])
