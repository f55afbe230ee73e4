# SPDX-License-Identifier: Apache-2.0
"""Which conntrack rows are meant: by address, port, protocol and endpoint, from or to."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from ciliumpy.cli.bpf.ct_rows import PROTOCOLS
from ciliumpy.cli.bpf.endpoint_id import parse as parse_endpoint
from ciliumpy.cli.output import Item
from ciliumpy.kit.errors import CiliumpyError

Ip = Annotated[
    list[str], typer.Option("--ip", metavar="IP", help="From or to the address or prefix (repeated: any of them).")
]
Endpoint = Annotated[str | None, typer.Option("--endpoint", metavar="[NODE:]ID", help="From or to this endpoint.")]
Port = Annotated[int | None, typer.Option("--port", metavar="PORT", min=0, max=65535, help="From or to the port.")]
Protocol = Annotated[str | None, typer.Option("--protocol", metavar="TEXT", help="tcp, udp, sctp, icmp, icmpv6.")]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Filter(NamedTuple):
    """Conditions that a row has to meet all of; an empty one is met by every row."""

    networks: tuple[Network, ...] = ()
    node: str | None = None
    endpoint: int | None = None
    port: int | None = None
    protocol: str | None = None

    @classmethod
    def of(cls, ips: Sequence[str], endpoint: str | None, port: int | None, protocol: str | None) -> Filter:
        """Return what the flags say. CiliumpyError (2) for what is no address, endpoint or protocol."""
        node, number = (None, None) if endpoint is None else parse_endpoint(endpoint)
        names = {name.lower(): name for name in PROTOCOLS.values()}
        if protocol is not None and protocol.lower() not in names:
            raise CiliumpyError(f"--protocol: there is none called {protocol!r}", ", ".join(sorted(names)), 2)
        found = None if protocol is None else names[protocol.lower()]
        return cls(tuple(network("--ip", ip) for ip in ips), node, number, port, found)

    def node_of(self, node: str | None) -> str | None:
        """Return the node to ask. CiliumpyError (2) if --node and --endpoint name two."""
        if None not in (self.node, node) and self.node != node:
            raise CiliumpyError(f"endpoint {self.node}:{self.endpoint} is not on node {node!r}", "leave out --node", 2)
        return node or self.node

    def meets(self, row: Item) -> bool:
        sides = (row["source"], row["destination"])
        ends = (row["sourceEndpoint"], row["destinationEndpoint"])
        return (
            self.protocol in (None, row["protocol"])
            and (self.port is None or any(side["port"] == self.port for side in sides))
            and (self.endpoint is None or self.endpoint in ends)
            and (not self.networks or any(_within(side["ip"], each) for side in sides for each in self.networks))
        )


def network(flag: str, text: str) -> Network:
    """Return an address or prefix. CiliumpyError (2) if it is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise CiliumpyError(f"{flag}: {text!r} is no address and no prefix", "as 10.244.1.7, fd00::/48", 2) from None


@functools.lru_cache(1 << 16)
def _within(ip: str, wanted: Network) -> bool:
    address = ipaddress.ip_address(ip)
    return address.version == wanted.version and address in wanted
