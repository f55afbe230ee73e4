# SPDX-License-Identifier: Apache-2.0
"""The labels of a prefix: its own, the world's, and those of every group that contains it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.model.cidr import Groups, canonical, key_of, prefix_labels
from ciliumpy.model.labels import parse
from ciliumpy.model.selectors import CIDR, exists, network

networks = st.one_of(
    st.builds(lambda a, n: ipaddress.ip_network((a, n), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(
        lambda a, n: ipaddress.IPv6Network((a, n), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
    ),
)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "0--0/0"),
        ("2001:db8::/32", "2001-db8--0/32"),
        ("::1/128", "0--1/128"),
        ("2001:db8::7/128", "2001-db8--7/128"),
    ],
)
def test_a_prefix_has_one_key(prefix, key):
    assert key_of(prefix) == key


def test_bits_beyond_the_length_are_cleared_and_an_address_is_its_own_prefix():
    assert canonical("10.1.2.3/8") == "10.0.0.0/8"
    assert canonical("2001:DB8:0::5/32") == "2001:db8::/32"
    assert canonical("10.1.2.3") == "10.1.2.3/32"
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/33"):
        canonical("10.0.0.0/33")


@given(networks)
def test_a_key_means_its_prefix(prefix):
    assert network(key_of(str(prefix))) == (prefix.version, int(prefix.network_address), prefix.prefixlen)


@given(networks, networks)
def test_a_rule_that_names_a_prefix_selects_the_identities_within(inner, outer):
    labels = [parse(text) for text in prefix_labels(str(inner))]
    contains = inner.version == outer.version and inner.subnet_of(outer)
    assert exists(CIDR, key_of(str(outer))).matches(labels) == contains


def test_the_world_is_one_or_two():
    assert prefix_labels("10.0.0.0/8") == ("cidr:10.0.0.0/8", "reserved:world-ipv4")
    assert prefix_labels("fd00::/8") == ("cidr:fd00--0/8", "reserved:world-ipv6")
    assert prefix_labels("10.0.0.0/8", ipv6=False) == ("cidr:10.0.0.0/8", "reserved:world")


def test_labels_of_groups_are_inherited_by_what_is_within():
    groups = Groups()
    groups.set("offices", {"tier": "gold", "site": ""}, ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"])
    groups.set("lab", {}, ["10.1.2.0/24"])
    offices = (
        "cidrgroup:io.cilium.policy.cidrgroupname/offices",
        "cidrgroup:site",
        "cidrgroup:tier",
        "cidrgroup:tier=gold",
    )
    lab = "cidrgroup:io.cilium.policy.cidrgroupname/lab"
    assert prefix_labels("10.9.0.0/16", groups)[1:-1] == offices
    assert prefix_labels("10.1.2.3/32", groups)[1:-1] == (lab, *offices)
    assert prefix_labels("10.0.0.0/7", groups) == ("cidr:10.0.0.0/7", "reserved:world-ipv4"), "wider than the group's"
    assert prefix_labels("fd00:1::/32", groups)[1:-1] == offices
    groups.set("offices", {}, ["192.168.0.0/16"])
    assert prefix_labels("10.1.2.3/32", groups)[1:-1] == (lab,)
    groups.remove("lab")
    groups.remove("offices")
    groups.remove("never")
    assert prefix_labels("10.1.2.3/32", groups) == prefix_labels("10.1.2.3/32")


def test_a_bad_prefix_leaves_the_group_as_it_was():
    groups = Groups()
    groups.set("one", {}, ["10.0.0.0/8"])
    with pytest.raises(ValueError, match="nonsense"):
        groups.set("one", {}, ["11.0.0.0/8", "nonsense"])
    assert "cidrgroup:io.cilium.policy.cidrgroupname/one" in prefix_labels("10.0.0.0/8", groups)
    assert "cidrgroup:io.cilium.policy.cidrgroupname/one" not in prefix_labels("11.0.0.0/8", groups)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(networks, max_size=3), max_size=3), networks)
def test_groups_are_those_that_contain_it(given_groups, prefix):
    groups = Groups()
    for name, prefixes in given_groups.items():
        groups.set(name, {}, map(str, prefixes))
    expected = {
        name
        for name, prefixes in given_groups.items()
        if any(p.version == prefix.version and prefix.subnet_of(p) for p in prefixes)
    }
    assert {label.key.rpartition("/")[2] for label in groups.labels_of(str(prefix))} == expected
