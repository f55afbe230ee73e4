# SPDX-License-Identifier: Apache-2.0
"""Pools give out each address once, in turn, and never the router's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.ipam.allocate import Pool, choose_cidr, router_address
from ciliumpy.kit.errors import CiliumpyError


def test_every_address_of_a_small_pool_is_given_out_once() -> None:
    pool = Pool("10.244.0.0/29")
    got = [pool.allocate() for _ in range(pool.total)]
    assert got == ["10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5", "10.244.0.6"]
    with pytest.raises(CiliumpyError, match=r"no address is left in pod CIDR 10\.244\.0\.0/29"):
        pool.allocate()


def test_a_freed_address_rests_for_a_round() -> None:
    pool = Pool("fd00::/125")
    first = pool.allocate()
    pool.release(first)
    rest = [pool.allocate() for _ in range(pool.total)]
    assert rest[-1] == first
    assert pool.allocated == pool.total


def test_restored_addresses_are_not_given_out_again() -> None:
    pool = Pool("10.244.1.0/24", in_use=["10.244.1.2", "10.244.1.9", "10.9.9.9"])
    assert pool.allocated == 2
    assert pool.allocate() == "10.244.1.10"


def test_router_address_is_the_first_usable() -> None:
    assert router_address("10.244.3.0/24") == "10.244.3.1"
    assert router_address("fd00:10:244:1::/64") == "fd00:10:244:1::1"


def test_pool_too_small() -> None:
    with pytest.raises(CiliumpyError, match="too small"):
        Pool("10.0.0.0/31")


def test_cidrs_are_taken_in_order_and_holes_are_filled() -> None:
    taken = ["10.244.0.0/24", "10.244.2.0/24", "fd00::/64"]
    assert choose_cidr("10.244.0.0/16", 24, taken) == "10.244.1.0/24"
    assert choose_cidr("fd00::/48", 64, taken) == "fd00:0:0:1::/64"


def test_cidr_of_another_size_is_avoided() -> None:
    assert choose_cidr("10.244.0.0/16", 24, ["10.244.0.0/22", "10.244.4.128/25"]) == "10.244.5.0/24"


def test_cidrs_of_a_low_ipv6_prefix_are_ipv6() -> None:
    assert choose_cidr("::/32", 64, ["::/64"]) == "0:0:0:1::/64"


def test_no_cidr_left() -> None:
    with pytest.raises(CiliumpyError, match="no /25 is left"):
        choose_cidr("10.0.0.0/24", 25, ["10.0.0.0/25", "10.0.0.128/25"])
    with pytest.raises(CiliumpyError, match="does not fit"):
        choose_cidr("10.0.0.0/24", 16, [])


@given(
    st.lists(st.tuples(st.integers(0, 255), st.sampled_from([24, 25, 26, 28])), max_size=30),
    st.sampled_from([24, 25, 26]),
)
def test_choice_never_overlaps(taken: list[tuple[int, int]], mask: int) -> None:
    networks = [ipaddress.ip_network(f"10.1.0.{octet}/{size}", strict=False) for octet, size in taken]
    networks = [n for n in networks if n.prefixlen > 24]
    try:
        chosen = ipaddress.ip_network(choose_cidr("10.1.0.0/23", mask, [str(n) for n in networks]))
    except CiliumpyError:
        pytest.fail("the second half is free")
    assert not any(chosen.overlaps(n) for n in networks)
    assert chosen.subnet_of(ipaddress.ip_network("10.1.0.0/23"))
