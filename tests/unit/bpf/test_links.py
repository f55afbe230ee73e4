# SPDX-License-Identifier: Apache-2.0
"""tcx links on `lo` of a namespace of the test's own."""

from __future__ import annotations

import socket
import threading

import pytest

from ciliumpy.bpf.links import Link, attach_tcx
from ciliumpy.kit.errors import CiliumpyError

pytestmark = pytest.mark.root


@pytest.fixture
def echo(own_namespace):
    """Send a datagram over `lo` and say whether it arrived."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)  # loopback delivers before sendto returns

        def send() -> bool:
            client.sendto(b"x", server.getsockname())
            try:
                return server.recv(10) == b"x"
            except BlockingIOError:
                return False

        yield send


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_attach_and_detach(loaded, echo, direction):
    assert echo()
    with attach_tcx(loaded.programs["shoot"], 1, direction, None) as link:
        assert not echo()
        assert (link.ifindex, link.program_id, link.direction) == (1, loaded.programs["shoot"].id, direction)
        link.detach()
        assert echo()
        link.detach()


def test_a_link_without_a_pin_ends_with_its_descriptor(loaded, echo):
    attach_tcx(loaded.programs["shoot"], 1, "ingress", None).close()
    assert echo()


def test_a_pinned_link_outlives_its_opener_and_is_updated_atomically(loaded, echo, pins):
    pin = pins / "links" / "pod-lo"
    attach_tcx(loaded.programs["shoot"], 1, "ingress", pin).close()
    assert not echo()
    with Link.open_pinned(pin) as link:
        number = link.info.id
        link.update(loaded.programs["count"])
        assert echo()
    with attach_tcx(loaded.programs["shoot"], 1, "ingress", pin) as again:
        assert again.info.id == number, "an update, not a second link"
        assert not echo()
        again.detach()
    assert not pin.exists()
    assert echo()


def test_no_packet_passes_while_programs_are_swapped(loaded, echo, pins):
    """Two programs that both drop, swapped a thousand times under traffic: nothing slips through between them."""
    pin = pins / "swap"
    with attach_tcx(loaded.programs["shoot"], 1, "ingress", pin) as link:
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                link.update(loaded.programs["shoot"])

        worker = threading.Thread(target=swap)
        worker.start()
        try:
            assert not any(echo() for _ in range(2000))
        finally:
            stop.set()
            worker.join()


def test_a_pin_for_another_direction_is_replaced(loaded, echo, pins):
    pin = pins / "pod-lo"
    attach_tcx(loaded.programs["shoot"], 1, "egress", pin).close()
    with attach_tcx(loaded.programs["shoot"], 1, "ingress", pin) as link:
        assert link.direction == "ingress"
        link.detach()
    assert echo()


def test_a_device_that_is_not_there_is_refused_and_nothing_pinned(loaded, own_namespace, pins):
    with pytest.raises(CiliumpyError, match="count to the ingress of device 4711: No such device"):
        attach_tcx(loaded.programs["count"], 4711, "ingress", pins / "x")
    assert not (pins / "x").exists()


def test_when_it_cannot_be_pinned_it_is_not_attached(loaded, echo, tmp_path):
    with pytest.raises(CiliumpyError, match="cannot pin link"):
        attach_tcx(loaded.programs["shoot"], 1, "ingress", tmp_path / "no-bpffs")
    assert echo()


def test_no_link_there(pins):
    with pytest.raises(CiliumpyError, match=r"cannot open link .*: No such file"):
        Link.open_pinned(pins / "nothing")
