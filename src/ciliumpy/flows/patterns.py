# SPDX-License-Identifier: Apache-2.0
"""What the values of a FlowFilter mean: each text parsed once into a predicate over the values of one flow.

Shared by filters.py, which asks once per distinct value, and match.py, which asks once per flow. A value that means
nothing raises CiliumpyError in the words of Hubble.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.labels import Label, parse
from ciliumpy.model.selectors import Operator, Requirement, Selector, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ciliumpy.proto import flow_pb2

PROTOCOLS = {
    "icmp": ("ICMPv4", "ICMPv6"),
    "icmpv4": ("ICMPv4",),
    "icmpv6": ("ICMPv6",),
    "tcp": ("TCP",),
    "udp": ("UDP",),
    "sctp": ("SCTP",),
    "vrrp": ("VRRP",),
    "igmp": ("IGMP",),
    "dns": ("dns",),
    "http": ("http",),
    "kafka": ("kafka",),
}

L7 = 129  # the event type of HTTP, DNS, Kafka
ANY_FQDN = r"[-0-9_a-z]+(?:\.[-0-9_a-z]+)*"


def refuse(message: str) -> CiliumpyError:
    return CiliumpyError(message, exit_code=2)


class NamePattern(NamedTuple):
    """`[namespace/]prefix`. Without a slash the namespace is `default`; an empty part matches anything."""

    namespace: str
    prefix: str

    def matches(self, namespace: str, name: str) -> bool:
        if not namespace and not name:
            return False
        return self.namespace in ("", namespace) and name.startswith(self.prefix)


def name_pattern(text: str) -> NamePattern:
    if not text:
        raise refuse("invalid filter, name must not be empty")
    namespace, slash, rest = text.partition("/")
    return NamePattern(namespace, rest.partition("/")[0]) if slash else NamePattern("default", text)


class AddressPattern(NamedTuple):
    """A prefix as (family, first address, mask), or `text`: an address that is compared as text, as Hubble does."""

    version: int
    network: int
    mask: int
    text: str  # empty: a prefix

    def matches(self, text: str) -> bool:
        if not text:
            return False
        if self.text:
            return text == self.text
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return address.version == self.version and int(address) & self.mask == self.network


def address_pattern(text: str) -> AddressPattern:
    try:
        if "/" in text:
            network = ip_network(text, strict=False)
            return AddressPattern(network.version, int(network.network_address), int(network.netmask), "")
        address = ip_address(text)
    except ValueError:
        kind = "prefix" if "/" in text else "address"
        raise refuse(f'invalid IP {kind} "{text}" in filter') from None
    return AddressPattern(address.version, int(address), (1 << address.max_prefixlen) - 1, text)


def port(text: str, side: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise refuse(f'invalid {side} port filter: invalid port "{text}": a number up to 65535 is needed')
    return int(text)


def protocol(text: str) -> tuple[str, ...]:
    """Return the names of the oneof members of Layer4 and Layer7 that are meant."""
    known = PROTOCOLS.get(text.lower())
    if known is None:
        raise refuse(f'invalid protocol filter: unknown protocol: "{text}"')
    return known


# Label selectors.

_OPERATOR = re.compile(r"^(?P<key>[^\s!=(),]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s!=(),]*))?$")
_SET = re.compile(r"^(?P<key>[^\s!=(),]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_SPLIT = re.compile(r",(?![^(]*\))")


def label_selector(text: str, what: str) -> Selector:
    """Parse a Kubernetes label selector whose keys may begin with a source (`k8s:app=x`); without one any will do."""
    try:
        parts = [part.strip() for part in _SPLIT.split(text)] if text.strip() else []
        return one_of([[_requirement(part) for part in parts]])
    except ValueError as error:
        raise refuse(f"invalid {what} filter: {error}") from None


def _requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        values = tuple(sorted(value.strip() for value in match["values"].split(",")))
        return Requirement(*_key(match["key"]), Operator.IN if match["op"] == "in" else Operator.NOT_IN, values)
    if text.startswith("!") and (match := _OPERATOR.match(text[1:].strip())) and not match["op"]:
        return Requirement(*_key(match["key"]), Operator.DOES_NOT_EXIST)
    if match := _OPERATOR.match(text):
        if not match["op"]:
            return Requirement(*_key(match["key"]), Operator.EXISTS)
        return Requirement(
            *_key(match["key"]), Operator.NOT_IN if match["op"] == "!=" else Operator.IN, (match["value"],)
        )
    raise ValueError(f'"{text}" is no label selector')


def _key(text: str) -> tuple[str, str]:
    source, colon, key = text.partition(":")
    return (source, key) if colon else ("any", text)


def labels_of(texts: Iterable[str]) -> tuple[Label, ...]:
    return tuple(parse(text) for text in texts)


# DNS and node names.


def fqdn_patterns(texts: Sequence[str], what: str) -> re.Pattern[str]:
    """Return one pattern for all; `*` stands for letters, digits, `-` and `.`, but not for `_`."""
    return re.compile(rf"\A(?:{'|'.join(_fqdn(text, what) for text in texts)})\Z")


def _fqdn(text: str, what: str) -> str:
    name = text.strip().removesuffix(".").lower()
    if not name:
        raise refuse(f"invalid {what} filter: empty pattern")
    if name.endswith("."):
        raise refuse(f"invalid {what} filter: multiple trailing dots in pattern")
    if bad := re.search(r"[^-a-z0-9_.*]", name):
        raise refuse(f"invalid {what} filter: '{bad[0]}': invalid rune in pattern")
    return "".join("[-.0-9a-z]*" if c == "*" else re.escape(c) for c in name)


def node_patterns(texts: Sequence[str]) -> Callable[[str], bool]:
    """Return the predicate of `[cluster/]node` patterns over `cluster/node`; a bare node is in cluster `default`."""
    parts = []
    for text in texts:
        cluster, slash, node = text.partition("/") if "/" in text else ("", "", text)
        if "/" in node:
            raise refuse("invalid node name filter: too many slashes in pattern")
        pair = (_fqdn(part, "node name") if part else ANY_FQDN for part in (cluster if slash else "", node))
        parts.append("/".join(pair))
    pattern = re.compile(rf"\A(?:{'|'.join(parts)})\Z")

    def matches(name: str) -> bool:
        return bool(name) and pattern.match(name if "/" in name else f"default/{name}") is not None

    return matches


# HTTP.


def http_status(text: str) -> Callable[[int], bool]:
    if re.fullmatch(r"[1-5][0-9]{2}", text):
        return lambda code: code == int(text)
    if re.fullmatch(r"[1-5][0-9]?\+", text):
        return lambda code: code != 0 and str(code).startswith(text[:-1])
    raise refuse(f'invalid http status code filter: invalid status code prefix: "{text}"')


def regexps(texts: Iterable[str], what: str) -> list[re.Pattern[str]]:
    try:
        return [re.compile(text) for text in texts]
    except re.error as error:
        raise refuse(f"invalid {what} filter: failed to compile regexp: {error}") from None


def check(wanted: flow_pb2.FlowFilter) -> None:
    """Refuse what no flow could be asked for, also in the fields that our rows never carry."""
    if wanted.experimental.cel_expression:
        raise refuse("the filter field experimental.cel_expression is not supported")
    for side in ("source", "destination"):
        if texts := getattr(wanted, f"{side}_fqdn"):
            fqdn_patterns(texts, f"{side} fqdn")
        for text in getattr(wanted, f"{side}_service"):
            name_pattern(text)
        if "" in getattr(wanted, f"{side}_cluster_name"):
            raise refuse("invalid cluster name filter: the name must not be empty")
    for text in wanted.source_ip_xlated:
        address_pattern(text)
    regexps(wanted.dns_query, "DNS query")
    for text in wanted.http_status_code:
        http_status(text)
    regexps(wanted.http_path, "http path")
    regexps(wanted.http_url, "http url")
    for name, text in (
        ("http_status_code", "http status code"),
        ("http_method", "http method"),
        ("http_path", "http path"),
        ("http_url", "http url"),
        ("http_header", "http header"),
    ):
        if getattr(wanted, name) and wanted.event_type and all(each.type != L7 for each in wanted.event_type):
            raise refuse(f"filtering by {text} requires the event type filter to only match 'l7' events")
