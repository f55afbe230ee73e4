# SPDX-License-Identifier: Apache-2.0
"""Ports as Cilium reads them."""

from __future__ import annotations

import pytest

from ciliumpy.model.ports import Protocol, is_port_name, parse_port, parse_protocol


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("80", 80), ("010", 8), ("1_000", 1000), ("0" * 20 + "10", 8), ("65535", 65535)]
)
def test_a_number(text, number):
    assert parse_port(text) == number


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("65536", "the highest is 65535"),
        ("70000", "the highest is 65535"),
        ("9" * 5000, "the highest is 65535"),
        ("080", "a leading zero means base 8"),
        ("-1", "neither a port number nor a port name"),
        ("http_alt", "neither a port number nor a port name"),
        ("1__000", "neither a port number nor a port name"),
        ("_1", "neither a port number nor a port name"),
        ("", "neither a port number nor a port name"),
        ("٣", "neither a port number nor a port name"),
    ],
)
def test_no_number(text, why):
    with pytest.raises(ValueError, match=why):
        parse_port(text)


@pytest.mark.parametrize("text", ["http", "HTTP-2", "0x50", "x" * 15])
def test_a_name(text):
    assert is_port_name(text)


@pytest.mark.parametrize("text", ["80", "a--b", "-a", "a-", "a_b", "x" * 16, "a-very-long-port-name", "", "\u212aey"])
def test_no_name(text):
    assert not is_port_name(text)


def test_protocols():
    assert parse_protocol("") == parse_protocol("ANY") == (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
    assert parse_protocol("icmpv6") == (Protocol.ICMPV6,)
    with pytest.raises(ValueError, match="unknown protocol 'QUIC'"):
        parse_protocol("QUIC")
