# SPDX-License-Identifier: Apache-2.0
"""One row an address, and the more trusted source wins."""

from __future__ import annotations

from ciliumpy.nodes import derive
from ciliumpy.nodes.derive import Claims, Families
from ciliumpy.tables.endpoints import Endpoint
from ciliumpy.tables.source import EndpointObject, Node

N2 = Node(
    "n2",
    internal_ips=("172.30.0.2", "fd00:30::2"),
    router_ips=("10.244.1.1", "fd00:10:244:1::1"),
    pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"),
)


def rows(claims) -> dict[str, tuple[int, str, int]]:
    return {c.entry.prefix: (c.entry.identity, c.entry.tunnel, c.entry.flags) for c in claims}


def test_world_has_an_identity_per_family_only_in_dual_stack() -> None:
    assert rows(derive.world_claims(Families())) == {"0.0.0.0/0": (9, "", 0), "::/0": (10, "", 0)}
    assert rows(derive.world_claims(Families(ipv6=False))) == {"0.0.0.0/0": (2, "", 0)}
    assert rows(derive.world_claims(Families(ipv4=False))) == {"::/0": (2, "", 0)}


def test_the_tunnel_goes_by_the_underlays_family() -> None:
    node = Node("n2", "c", ("172.30.0.2", "fd00:9::2"), ("10.0.1.1",), ("10.0.1.0/24",))
    over6 = rows(derive.node_claims(node, Families(underlay=6)))
    assert {tunnel for _, tunnel, _ in over6.values()} == {"fd00:9::2"}
    assert derive.tunnel_address(node, 4) == "172.30.0.2"
    only4 = Node("n3", "c", ("172.30.0.3",))
    assert derive.tunnel_address(only4, 6) == "172.30.0.3", "what it has, before nothing"


def test_own_addresses_are_the_host() -> None:
    assert rows(derive.own_node_claims("n1", ["172.30.0.1", "fd00:10:244::1"])) == {
        "172.30.0.1/32": (1, "", 2),
        "fd00:10:244::1/128": (1, "", 2),
    }


def test_another_node() -> None:
    assert rows(derive.node_claims(N2, Families())) == {
        "172.30.0.2/32": (6, "172.30.0.2", 4),
        "fd00:30::2/128": (6, "172.30.0.2", 4),
        "10.244.1.1/32": (6, "172.30.0.2", 1),
        "fd00:10:244:1::1/128": (6, "172.30.0.2", 1),
    }


def test_what_is_in_a_pod_cidr_besides_pods_is_the_world_behind_its_node() -> None:
    assert rows(derive.pod_cidr_claims(N2, "n1", Families())) == {
        "10.244.1.0/24": (9, "172.30.0.2", 1),
        "fd00:10:244:1::/64": (10, "172.30.0.2", 1),
    }
    assert rows(derive.pod_cidr_claims(N2, "n2", Families(ipv6=False))) == {
        "10.244.1.0/24": (2, "", 0),
        "fd00:10:244:1::/64": (2, "", 0),
    }
    assert rows(derive.pod_cidr_claims(Node("n3", pod_cidrs=("10.0.3.0/24",)), "n1", Families())) == {
        "10.0.3.0/24": (9, "", 0)
    }, "no CIDR reaches into it, though nobody knows the way"


def test_endpoint_of_another_node_goes_by_the_tunnel() -> None:
    ep = EndpointObject("shop", "api-1", 7, 40001, "n2", "172.30.0.2", ("10.244.1.9", "fd00:10:244:1::9"))
    assert rows(derive.endpoint_object_claims(ep, N2)) == {
        "10.244.1.9/32": (40001, "172.30.0.2", 1),
        "fd00:10:244:1::9/128": (40001, "172.30.0.2", 1),
    }
    assert rows(derive.endpoint_object_claims(ep, None)) == {}


def test_an_object_cannot_take_an_address_that_its_node_does_not_own() -> None:
    forged = EndpointObject("guest", "evil", 7, 40001, "n2", "172.30.0.2", ("10.244.0.5", "172.30.0.1", "8.8.8.8"))
    assert rows(derive.endpoint_object_claims(forged, N2)) == {}


def test_local_endpoint_without_identity_has_no_row() -> None:
    ep = Endpoint(
        id=5,
        generation=1,
        namespace="shop",
        pod="db",
        container_id="c",
        interface="eth0",
        host_interface="lxc1",
        ifindex=9,
        peer_ifindex=2,
        mac="",
        host_mac="",
        ipv4="10.244.0.5",
    )
    assert rows(derive.endpoint_claims(ep)) == {}


def test_the_more_trusted_source_wins_and_gives_way_again() -> None:
    claims = Claims()
    entry = next(iter(derive.own_node_claims("n1", ["10.0.0.1"]))).entry
    other = Node("n2", internal_ips=("10.0.0.1",))
    assert claims.replace("n2", derive.node_claims(other, Families())) == {"10.0.0.1/32"}
    assert claims.winner("10.0.0.1/32").identity == 6
    claims.replace("n1", derive.own_node_claims("n1", ["10.0.0.1"]))
    assert claims.winner("10.0.0.1/32") == entry
    assert claims.replace("n1", ()) == {"10.0.0.1/32"}
    assert claims.winner("10.0.0.1/32").identity == 6
    claims.replace("n2", ())
    assert claims.winner("10.0.0.1/32") is None


def test_an_equal_claim_changes_nothing() -> None:
    claims = Claims()
    claims.replace("n2", derive.node_claims(N2, Families()))
    assert claims.replace("n2", derive.node_claims(N2, Families())) == set()
