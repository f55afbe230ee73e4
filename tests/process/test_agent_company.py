# SPDX-License-Identifier: Apache-2.0
"""Others' programs on the hooks of ours: they keep their places and their say, and policy holds beside them."""

from __future__ import annotations

import signal
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from ciliumpy.bpf import build, links, programs
from ciliumpy.net import filters, netns
from ciliumpy.net import links as devices

from .agent_node import NODE4, policy

if TYPE_CHECKING:
    from .agent_node import AgentNode, Place, Pod

pytestmark = pytest.mark.root

SOURCE = Path(__file__).parents[1] / "bpf/c/foreign.bpf.c"
NEXT, OK, SHOT = -1, 0, 2
PREF_FIRST, PREF_LAST = 7, 60_000


@pytest.fixture(scope="session")
def foreign_object(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("foreign") / "foreign.o"
    try:
        build.need_tools()
    except build.BuildError as error:
        pytest.skip(str(error))
    build.compile_object(SOURCE, target)
    return target


class Stranger:
    """A program of somebody else on a device's ingress; it lets everything go on until it is told otherwise."""

    def __init__(self, source: Path, place: Place, device: str, kind: str, pref: int = 0) -> None:
        self._object = programs.load_object(source)
        self.program = self._object.programs["foreign"]
        self._state = self._object.maps["f_state_v1"]
        self._link = None
        self.says(NEXT)
        if kind == "tcx":
            ifindex = netns.run_in(place.fd, devices.need, device).ifindex
            self._link = netns.run_in(place.fd, links.attach_tcx, self.program, ifindex, "ingress", None)
        else:
            self._add_filter(place, device, pref)

    def _add_filter(self, place: Place, device: str, pref: int) -> None:
        """As users do: `tc`, with an object file of their own, and verdicts by direct action."""
        from ciliumpy.bpf.pins import mounted
        from ciliumpy.bpf.sys import obj_pin

        pin = mounted() / f"cpt-stranger-{self.program.id}"
        obj_pin(self.program.fd, pin)
        try:
            where = ["nsenter", f"--net={place.path}", "tc"]
            subprocess.run([*where, "qdisc", "add", "dev", device, "clsact"], capture_output=True, check=False)
            more = ["pref", str(pref)] if pref else []
            what = ["bpf", "direct-action", "object-pinned", str(pin)]
            subprocess.run([*where, "filter", "add", "dev", device, "ingress", *more, *what], check=True)
        finally:
            pin.unlink()

    def says(self, verdict: int) -> None:
        self._state.update(bytes(4), struct.pack("=iIQ", verdict, 0, self.seen))

    @property
    def seen(self) -> int:
        return int(self._state.lookup(bytes(4))["seen"])

    def sees(self, action: object) -> bool:
        """Tell whether it saw anything of what the action makes."""
        before = self.seen
        action()
        return self.seen > before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._link is not None:
            self._link.close()
        self._object.close()


def order(node: AgentNode, device: str) -> list[object]:
    """Everything on a device's ingress, as packets meet it: numbers of programs, then priorities."""

    def look() -> list[object]:
        ifindex = devices.need(device).ifindex
        return [*links.attached(ifindex, "ingress"), *(one.priority for one in filters.filters(ifindex, "ingress"))]

    return netns.run_in(node.place.fd, look)


def told(node: AgentNode, count: int) -> list[tuple[str, str, str]]:
    """What `status` tells of others, once it is so much."""

    def enough() -> list[tuple[str, str, str]] | None:
        found = node.get("/v1/status")["datapath"]["foreign"]
        return [(one["position"], one["kind"], one["device"]) for one in found] if len(found) == count else None

    return node.until(enough, 45.0)


def device_of(pod: Pod) -> str:
    return str(pod.result["interfaces"][0]["name"])


@pytest.mark.parametrize("attach", ["tcx", "clsact"])
def test_on_the_nodes_own_device(make_node, foreign_object: Path, attach: str) -> None:
    node = make_node(network={"attach": attach})
    with (
        Stranger(foreign_object, node.place, "eth0", "tcx") as first,
        Stranger(foreign_object, node.place, "eth0", "clsact", PREF_FIRST) as filter_,
    ):
        node.start()
        a, b = node.add("a"), node.add("b")
        node.apply("policy", policy("b-from-a", "b", peer="a"))
        node.until(lambda: node.policy_in_force("b"))
        with Stranger(foreign_object, node.place, "eth0", "clsact", PREF_LAST) as last, a.listen(80), b.listen(8080):
            world = node.world
            for stranger in (first, filter_, last):
                assert stranger.sees(lambda: world.ping(NODE4)), "what is for the node goes through all of them"
            assert first.sees(lambda: world.can_connect(a.addresses[0], 80)), "what is for a pod through those before"
            assert (attach == "clsact") == filter_.sees(lambda: world.can_connect(a.addresses[0], 80))
            assert not last.sees(lambda: world.can_connect(a.addresses[0], 80)), "and no further than to ours"

            for stranger in (first, filter_, last):
                stranger.says(SHOT)
                assert not world.ping(NODE4, timeout_s=0.2), "whoever drops it drops it"
                stranger.says(OK)
                assert world.ping(NODE4)
                assert world.can_connect(a.addresses[0], 80)
                for address in b.addresses:
                    assert not world.can_connect(address, 8080, 0.2), "accepted before us: the stack's way is judged"
                stranger.says(NEXT)

            before = order(node, "eth0")
            node.stop(signal.SIGKILL)
            node.start()
            after = order(node, "eth0")
            assert len(before) == len(after) == 4
            assert [a for a, b in zip(before, after, strict=True) if a == b] == [
                one for one in before if one in {first.program.id, PREF_FIRST, PREF_LAST} or one == 50_000
            ], "a restart moves nobody"
            sides = ["before", "before" if attach == "clsact" else "after", "after"]
            assert told(node, 3) == list(zip(sides, ["tcx", "clsact", "clsact"], ["eth0"] * 3, strict=True))
            assert not any("runs before ours" in p["message"] for p in node.get("/v1/status")["problems"])


@pytest.mark.parametrize("attach", ["tcx", "clsact"])
def test_on_a_pods_device(make_node, foreign_object: Path, attach: str) -> None:
    node = make_node(network={"attach": attach})
    node.start()
    a, b = node.add("a"), node.add("b")
    with (
        Stranger(foreign_object, node.place, device_of(a), attach) as other,
        Stranger(foreign_object, node.place, device_of(b), "clsact", PREF_LAST) as behind,
    ):
        # A filter that is given no priority comes first, a link behind ours, where nothing ever comes.
        assert other.sees(lambda: a.ping(b.addresses[0])) == (attach == "clsact")
        assert not behind.sees(lambda: b.ping(a.addresses[0]))
        other.says(SHOT)
        assert a.ping(b.addresses[0], timeout_s=0.2) == (attach == "tcx")
        other.says(NEXT)
        node.apply("policy", policy("b-from-nobody", "b", peer="nobody"))
        node.until(lambda: node.policy_in_force("b"))
        assert not a.ping(b.addresses[0], timeout_s=0.2)
        assert a.ping(NODE4)
        node.stop(signal.SIGKILL)
        node.start()
        assert not a.ping(b.addresses[0], timeout_s=0.2)
        side = "before" if attach == "clsact" else "after"
        assert set(told(node, 2)) == {(side, attach, device_of(a)), ("after", "clsact", device_of(b))}
        warned = [p["object"] for p in node.get("/v1/status")["problems"] if "runs before ours" in p["message"]]
        assert warned == ([device_of(a)] if attach == "clsact" else [])


@pytest.mark.parametrize("attach", ["tcx", "clsact"])
def test_what_somebody_takes_away_is_put_back(make_node, attach: str) -> None:
    """`tc qdisc del dev ... clsact` takes all filters of a device along, ours too."""
    node = make_node(network={"attach": attach})
    node.start()
    a, b = node.add("a"), node.add("b")

    def take_away() -> None:
        for device in (device_of(a), "eth0"):
            command = ["nsenter", f"--net={node.place.path}", "tc", "qdisc", "del", "dev", device, "clsact"]
            subprocess.run(command, capture_output=True, check=False)

    before = order(node, device_of(a)), order(node, "eth0")
    take_away()
    node.until(lambda: (order(node, device_of(a)), order(node, "eth0")) == before, 60.0)
    assert a.ping(b.addresses[0])
    assert "was gone, and is back" in node.log()
