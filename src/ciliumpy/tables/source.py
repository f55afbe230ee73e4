# SPDX-License-Identifier: Apache-2.0
"""Rows as the store has them. Written by store/reflector.py alone."""

from __future__ import annotations

import msgspec

from ciliumpy.model.rule import Rule
from ciliumpy.state.table import TableSpec


class NamedPort(msgspec.Struct, frozen=True, order=True):
    name: str
    protocol: str  # TCP, UDP, SCTP
    port: int


class Pod(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    labels: tuple[tuple[str, str], ...] = ()  # as in metadata, sorted
    service_account: str = ""
    host_network: bool = False
    ports: tuple[NamedPort, ...] = ()
    ips: tuple[str, ...] = ()  # as its status says, while it runs
    workload_kind: str = ""  # from the owner: Deployment, ...
    workload_name: str = ""


class Namespace(msgspec.Struct, frozen=True):
    name: str
    labels: tuple[tuple[str, str], ...] = ()


class Policy(msgspec.Struct, frozen=True):
    """A policy object in force. What of it has no effect grants nothing, and closes its direction all the same."""

    kind: str  # CiliumNetworkPolicy
    namespace: str
    name: str
    rules: tuple[Rule, ...]
    origin: str  # file it was read from
    stale: bool = False  # the file is bad; this is its last good version
    notices: tuple[str, ...] = ()  # what of it has no effect, and why
    version: str = ""  # of the object: changes with its content


class Service(msgspec.Struct, frozen=True):
    """A Service, as far as policies ask."""

    namespace: str
    name: str
    labels: tuple[tuple[str, str], ...] = ()  # as in metadata, sorted
    selector: tuple[tuple[str, str], ...] = ()  # sorted; none: its backends are who is behind it


class EndpointSlice(msgspec.Struct, frozen=True):
    """An EndpointSlice (discovery.k8s.io/v1), as far as policies ask."""

    namespace: str
    name: str
    service: str  # empty: of none
    addresses: tuple[str, ...] = ()  # of endpoints that serve, in the order of the object


class CidrGroup(msgspec.Struct, frozen=True):
    """A CiliumCIDRGroup."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()  # as in metadata, sorted
    prefixes: tuple[str, ...] = ()  # canonical: model.cidr.canonical


class Node(msgspec.Struct, frozen=True):
    """A CiliumNode."""

    name: str
    cluster: str = "default"
    internal_ips: tuple[str, ...] = ()  # v4 first
    router_ips: tuple[str, ...] = ()  # type CiliumInternalIP
    pod_cidrs: tuple[str, ...] = ()  # v4 first
    labels: tuple[tuple[str, str], ...] = ()


class IdentityObject(msgspec.Struct, frozen=True):
    """A CiliumIdentity: allocated cluster-wide."""

    id: int
    labels: tuple[str, ...]  # security labels, sorted


class EndpointObject(msgspec.Struct, frozen=True):
    """A CiliumEndpoint, of any node."""

    namespace: str
    name: str
    id: int
    identity: int
    node: str
    node_ip: str
    ips: tuple[str, ...]


class Problem(msgspec.Struct, frozen=True):
    """Something in the store that could not be taken as it is; `status` is red while one of severity error is here."""

    origin: str  # file, or folder
    object: str  # Kind/namespace/name, or empty
    line: int  # 1-based, 0 unknown
    field: str  # spec.ingress[0].toPorts[0].ports[0].port, or empty
    message: str
    severity: str  # error, notice


PODS = TableSpec("pods", Pod, key=lambda r: (r.namespace, r.name), indexes={"node": lambda r: (r.node,)})
NAMESPACES = TableSpec("namespaces", Namespace, key=lambda r: r.name)
POLICIES = TableSpec("policies", Policy, key=lambda r: (r.kind, r.namespace, r.name))
SERVICES = TableSpec("services", Service, key=lambda r: (r.namespace, r.name))
ENDPOINT_SLICES = TableSpec(
    "endpoint-slices",
    EndpointSlice,
    key=lambda r: (r.namespace, r.name),
    indexes={"service": lambda r: ((r.namespace, r.service),)},
)
CIDR_GROUPS = TableSpec("cidr-groups", CidrGroup, key=lambda r: r.name)
NODES = TableSpec("nodes", Node, key=lambda r: r.name)
IDENTITY_OBJECTS = TableSpec(
    "identity-objects", IdentityObject, key=lambda r: r.id, indexes={"labels": lambda r: (r.labels,)}
)
ENDPOINT_OBJECTS = TableSpec(
    "endpoint-objects",
    EndpointObject,
    key=lambda r: (r.namespace, r.name),
    indexes={"node": lambda r: (r.node,), "identity": lambda r: (r.identity,)},
)
PROBLEMS = TableSpec("problems", Problem, key=lambda r: (r.origin, r.object, r.line, r.field, r.message))
