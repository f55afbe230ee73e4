# SPDX-License-Identifier: Apache-2.0
"""CHECK's comparison: each thing that a result says against the kernel's, one wrong at a time."""

from __future__ import annotations

import pytest

from ciliumpy.endpoints.attachment import Device, Previous, Seen, differences
from ciliumpy.net.links import Link
from ciliumpy.net.routes import Route
from ciliumpy.tables.endpoints import Endpoint

ENDPOINT = Endpoint(
    id=1,
    generation=1,
    namespace="shop",
    pod="api",
    container_id="c1",
    interface="eth0",
    host_interface="lxc1",
    ifindex=7,
    peer_ifindex=2,
    mac="0a:00:00:00:00:01",
    host_mac="0e:00:00:00:00:01",
    ipv4="10.0.0.2",
    ipv6="",
    labels=(),
    state="ready",
)
INNER = Link(2, "eth0", ENDPOINT.mac, 1450, up=True, kind="veth", peer=7)
OUTER = Link(7, "lxc1", ENDPOINT.host_mac, 1450, up=True, kind="veth", peer=2)
SEEN = Seen(OUTER, INNER, ("10.0.0.2/32",), (Route("0.0.0.0/0", 2, "10.0.0.1", ""),))
PREVIOUS = Previous(
    ("10.0.0.2/32",),
    (("0.0.0.0/0", "10.0.0.1"),),
    (Device("lxc1", ENDPOINT.host_mac, 1450, inside=False), Device("eth0", ENDPOINT.mac, 1450, inside=True)),
)


def test_what_is_as_it_was_has_no_differences() -> None:
    assert list(differences(ENDPOINT, PREVIOUS, SEEN)) == []
    assert list(differences(ENDPOINT, PREVIOUS._replace(routes=(("0.0.0.0/0", ""),)), SEEN)) == []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (SEEN._replace(outer=None), "the node's side lxc1 is gone or another device"),
        (SEEN._replace(outer=OUTER._replace(ifindex=8)), "the node's side lxc1 is gone or another device"),
        (SEEN._replace(outer=OUTER._replace(up=False)), "the node's side lxc1 is down"),
        (SEEN._replace(inner=None), "the pod's eth0 is gone or another device"),
        (SEEN._replace(inner=INNER._replace(ifindex=3)), "the pod's eth0 is gone or another device"),
        (SEEN._replace(inner=INNER._replace(up=False)), "the pod's eth0 is down"),
        (SEEN._replace(inner=INNER._replace(mtu=1300)), "eth0 has the MTU 1300, not 1450"),
        (SEEN._replace(outer=OUTER._replace(mac="02:00:00:00:00:01")), "lxc1 has the MAC address 02:00:00:00:00:01"),
        (SEEN._replace(addresses=()), "the pod's eth0 has not the address 10.0.0.2/32"),
        (SEEN._replace(addresses=("10.0.0.2/24",)), "the pod's eth0 has not the address 10.0.0.2/32"),
        (SEEN._replace(routes=()), "the pod has no route to 0.0.0.0/0 via 10.0.0.1"),
        (
            SEEN._replace(routes=(Route("0.0.0.0/0", 2, "10.0.0.9", ""),)),
            "the pod has no route to 0.0.0.0/0 via 10.0.0.1",
        ),
    ],
)
def test_one_difference_is_told_alone(seen: Seen, said: str) -> None:
    (found,) = differences(ENDPOINT, PREVIOUS, seen)
    assert found.startswith(said)
