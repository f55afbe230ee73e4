# SPDX-License-Identifier: Apache-2.0
"""Which prefixes rules name, and what addresses are labelled with."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.model.cidr import Groups
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.policy.prefixes import Longest, inside_labels, named_by, outside_labels


def test_exceptions_are_named_too():
    block = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}
    peers = [{"ipBlock": block}, {"ipBlock": {"cidr": "2001:db8::/32"}}, {"podSelector": {}}]
    document = {"metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": [{"to": peers}]}}
    assert named_by(decode_network_policy(document).rules) == {"10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"}


def prefixes(version: int) -> st.SearchStrategy[str]:
    bits = 32 if version == 4 else 128
    family = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    # Few leading bits, so that many contain each other.
    numbers = st.integers(0, 255).map(lambda n: n << (bits - 8))
    return st.builds(lambda n, length: str(family((n, length), strict=False)), numbers, st.integers(0, 12))


@given(st.sets(st.one_of(prefixes(4), prefixes(6))), st.integers(0, 255), st.sampled_from((4, 6)))
def test_an_address_belongs_to_the_longest_prefix_that_contains_it(named: set[str], first: int, version: int):
    family, bits = (ipaddress.IPv4Address, 32) if version == 4 else (ipaddress.IPv6Address, 128)
    address = family((first << (bits - 8)) + 7)
    containing = [p for p in map(ipaddress.ip_network, named) if p.version == version and address in p]
    expected = str(max(containing, key=lambda p: p.prefixlen)) if containing else None
    assert Longest(named).of(str(address)) == expected


def test_an_address_outside_has_the_labels_of_its_prefix_or_of_the_world():
    groups = Groups()
    groups.set("vpn", {}, ["10.0.0.0/8"])
    named = Longest({"10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"})
    group = "cidrgroup:io.cilium.policy.cidrgroupname/vpn"
    assert outside_labels("10.1.2.3", named, groups) == ("cidr:10.1.0.0/16", group, "reserved:world-ipv4")
    assert outside_labels("10.2.2.3", named) == ("cidr:10.0.0.0/8", "reserved:world-ipv4")
    assert outside_labels("2001:db8::1", named, ipv4=False) == ("cidr:2001-db8--0/32", "reserved:world")
    assert outside_labels("11.0.0.1", named) == ("reserved:world-ipv4",)
    assert outside_labels("2001:db9::1", named) == ("reserved:world-ipv6",)
    assert outside_labels("11.0.0.1", named, ipv6=False) == ("reserved:world",)


def test_a_pod_that_cidrs_match_has_a_prefix_of_each_of_its_addresses_and_is_not_of_the_world():
    groups = Groups()
    groups.set("vpn", {"kind": "x"}, ["10.0.0.0/8"])
    named = Longest({"10.0.0.0/8", "10.1.0.0/16", "fd00::/8"})
    assert inside_labels(["10.1.0.9", "fd00::9"], named) == ("cidr:10.1.0.0/16", "cidr:fd00--0/8")
    assert inside_labels(["10.3.0.9"], named, groups) == (
        "cidr:10.0.0.0/8",
        "cidrgroup:io.cilium.policy.cidrgroupname/vpn",
        "cidrgroup:kind",
        "cidrgroup:kind=x",
    )
    assert inside_labels(["192.0.2.1"], named) == ()
