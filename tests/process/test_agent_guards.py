# SPDX-License-Identifier: Apache-2.0
"""Guards that a whole agent has to keep: what its death leaves undone, and what holds when its programs are gone."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path

import pytest

from ciliumpy.net import filters, links, netns, sysctl

from .agent_node import WORLD4, AgentNode, passes, policy

pytestmark = pytest.mark.root


def test_3_killed_between_the_last_write_and_the_bump(
    make_node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = tmp_path / "die"
    monkeypatch.setenv("CPT_DIE_AT_BUMP", str(armed))
    node: AgentNode = make_node()
    node.start(program=[str(Path(__file__).with_name("dying_agent.py"))])
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))

    def sets() -> list[int]:
        with node.map("cp_endpoint_v1") as map_:
            return sorted(map_.items()[1]["policy_set"].tolist())

    with b.listen(8080), a.connect(b.addresses[0], 8080) as revoked:
        assert passes(revoked)
        before = sets()
        armed.touch()
        node.apply("policy", policy("b-from-nobody", "b", peer="nobody"))
        assert node.process is not None
        assert node.process.wait(10) == -signal.SIGKILL
        node.process = None
        assert sets() != before, "it has written"
        assert passes(revoked), "and not bumped: what was decided before is replayed"
        armed.unlink()
        node.start()
        assert not passes(revoked)
        assert not a.can_connect(b.addresses[0], 8080, 0.3)


def test_14_the_second_belt_holds_where_the_first_is_gone(node: AgentNode) -> None:
    """No link, no filter: the stack forwards no IPv4 from a pod's device."""
    a = node.add("a")
    assert a.ping(WORLD4)
    node.stop(signal.SIGKILL)
    device = a.result["interfaces"][0]["name"]
    (node.bpffs / "links" / f"pod-{device}").unlink()

    def bare() -> bool:
        return filters.remove(links.need(device).ifindex, "ingress", "ciliumpy-closed")

    assert netns.run_in(node.place.fd, bare)
    with (
        node.world.socket(socket.AF_INET, socket.SOCK_DGRAM) as world,
        a.socket(socket.AF_INET, socket.SOCK_DGRAM) as pod,
    ):
        world.bind((WORLD4, 9000))
        world.settimeout(0.5)
        pod.sendto(b"x", (WORLD4, 9000))
        with pytest.raises(TimeoutError):
            world.recv(16)
        netns.run_in(node.place.fd, sysctl.write, "net.ipv4.conf.{}.forwarding", 1, device)
        pod.sendto(b"y", (WORLD4, 9000))
        assert world.recv(16) == b"y", "it was the belt that held"
    shutil.rmtree(node.bpffs, ignore_errors=True)
