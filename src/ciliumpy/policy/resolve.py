# SPDX-License-Identifier: Apache-2.0
"""What a rule names that is known from elsewhere: ports by their names, and services.

A named port is a number of the receiving pod. On ingress that is the subject, so the number is known when its rules are
compiled. On egress it is each peer: for every number that some pod has under the name, the rule is one for that number
and for the peers that have it. Who has which is a label of source `port`, which identities carry in selector vectors
alone. Its key has a colon, so no policy's own selector can name it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ciliumpy.model.labels import NAMESPACE, Label
from ciliumpy.model.ports import PortRange, Protocol
from ciliumpy.model.rule import NamedPort, ServicePeer
from ciliumpy.model.selectors import CIDR, Selector, all_of, equals, exists, one_of
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ciliumpy.model.rule import Rule
    from ciliumpy.model.selectors import Requirement

PORT = "port"  # the source of labels that are named ports
PortName = tuple[int, str]  # protocol, name in lower case
PortNumbers = tuple[tuple[int, str, int], ...]  # protocol, name in lower case, number: what a pod's containers declare
NO_PORTS: PortNumbers = ()


class Service(msgspec.Struct, frozen=True):
    """What policies know of a service. One without a selector is its backends' addresses."""

    namespace: str
    name: str
    labels: tuple[tuple[str, str], ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    backends: tuple[str, ...] = ()  # prefixes of one address, as labels have them: 10.0.0.7/32, 2001-db8--7/128


def port_label(protocol: int, name: str, number: int) -> str:
    """The label of a named port, as vectors know it: port:TCP:http=80."""
    return str(Label(PORT, _key((protocol, name)), str(number)))


def _key(name: PortName) -> str:
    return f"{Protocol(name[0])}:{name[1]}"


def names(rule: Rule) -> Iterator[PortName]:
    """The ports that a rule calls by name."""
    for port in rule.ports or ():
        if isinstance(port, NamedPort):
            yield port.protocol, port.name


def services_of(peer: ServicePeer, services: Iterable[Service]) -> Iterator[Service]:
    """The services that a rule means."""
    for service in services:
        if peer.namespace in ("", service.namespace):
            labels = [Label("k8s", key, value) for key, value in service.labels]
            if (service.name == peer.name) if peer.labels is None else peer.labels.matches(labels):
                yield service


def backing(service: Service) -> Selector:
    """Who is behind a service: the pods that it selects, else the addresses of its backends."""
    if service.selector:
        own = [equals("k8s", key, value) for key, value in service.selector]
        return all_of(equals("k8s", NAMESPACE, service.namespace), *own)
    return one_of([exists(CIDR, prefix)] for prefix in service.backends)


def resolve(
    rule: Rule,
    services: Collection[Service] = (),
    own: PortNumbers = NO_PORTS,
    known: Mapping[PortName, Iterable[int]] | None = None,
) -> list[Rule]:
    """The rule with selectors and port numbers only; one or several that say the same together.

    `own` are the subject's named ports, `known` the numbers that any pod has under a name.
    """
    peers = rule.peers
    if peers and any(isinstance(peer, ServicePeer) for peer in peers):
        peers = tuple(dict.fromkeys(_selectors(peers, services)))
        rule = msgspec.structs.replace(rule, peers=peers)
    named = list(dict.fromkeys(names(rule)))
    if not named:
        return [rule]
    ranges = [port for port in rule.ports or () if isinstance(port, PortRange)]
    if rule.direction is Direction.INGRESS:
        ranges += [PortRange(protocol, at, at) for protocol, name, at in own if (protocol, name) in named]
        return [msgspec.structs.replace(rule, ports=tuple(dict.fromkeys(ranges)))]
    found = [msgspec.structs.replace(rule, ports=tuple(ranges))]  # also where it is empty: the subject is closed
    for name in named:
        for number in sorted((known or {}).get(name, ())):
            having = equals(PORT, _key(name), str(number))
            ports = (PortRange(name[0], number, number),)
            found.append(msgspec.structs.replace(rule, peers=_narrowed(rule.peers, having), ports=ports))
    return found


def _selectors(peers: Iterable[Selector | ServicePeer], services: Collection[Service]) -> Iterator[Selector]:
    for peer in peers:
        if isinstance(peer, Selector):
            yield peer
        else:
            yield from map(backing, services_of(peer, services))


def _narrowed(peers: tuple[Selector | ServicePeer, ...] | None, having: Requirement) -> tuple[Selector, ...]:
    if peers is None:
        return (all_of(having),)
    return tuple(one_of([*c, having] for c in peer.alternatives) for peer in peers if isinstance(peer, Selector))
