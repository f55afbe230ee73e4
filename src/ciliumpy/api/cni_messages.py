# SPDX-License-Identifier: Apache-2.0
"""What the CNI plugin and the agent say to each other: one JSON line there, one back.

    {"command", "network", "containerID", "ifname", "netns", "podNamespace", "podName", "podUID",
     "prevResult": {a CNI result of any version}, "attachments": [{"containerID", "ifname"}]}
    {"result": {CNI 1.1.0 result, or empty}}  or  {"error": {"code", "msg", "details"}}

Codes are the CNI specification's, section "Error"; 100 and above are ours.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ciliumpy.endpoints.attachment import (
    CannotTakeOverError,
    Device,
    DiffersError,
    Previous,
    Request,
    UnknownContainerError,
)
from ciliumpy.model.errors import FieldError
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from ciliumpy.endpoints.plug import Gateway
    from ciliumpy.kit.errors import CiliumpyError
    from ciliumpy.tables.endpoints import Endpoint

UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
UNAVAILABLE = 50  # an ADD would fail
LIMITED = 51  # and pods that are there may be cut off from some
INTERNAL = 100
DIFFERS = 101

_MAIN_TABLE = 254


class Interface(msgspec.Struct, frozen=True):
    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""


class Ip(msgspec.Struct, frozen=True):
    address: str
    interface: int | None = None


class RouteOf(msgspec.Struct, frozen=True):
    dst: str
    gw: str | None = None
    table: int | None = None


class Result(msgspec.Struct, frozen=True):
    """What is looked at of a result. A plugin may leave out anything, or write null."""

    interfaces: tuple[Interface, ...] | None = None
    ips: tuple[Ip, ...] | None = None
    routes: tuple[RouteOf, ...] | None = None


class Attachment(msgspec.Struct, frozen=True):
    container_id: str = msgspec.field(name="containerID")
    ifname: str


class Message(msgspec.Struct, frozen=True):
    command: str
    container_id: str = msgspec.field(name="containerID", default="")
    ifname: str = ""
    netns: str = ""
    pod_namespace: str = msgspec.field(name="podNamespace", default="")
    pod_name: str = msgspec.field(name="podName", default="")
    pod_uid: str = msgspec.field(name="podUID", default="")
    network: str = ""
    previous: Result | None = msgspec.field(name="prevResult", default=None)
    attachments: tuple[Attachment, ...] | None = None

    def request(self) -> Request:
        return Request(
            self.container_id,
            self.ifname,
            self.netns,
            self.pod_namespace,
            self.pod_name,
            self.pod_uid,
            self.network,
        )


class Failure(NamedTuple):
    code: int
    message: str
    details: str = ""

    def encode(self) -> bytes:
        body = {"code": self.code, "msg": self.message, "details": self.details}
        return msgspec.json.encode({"error": body}) + b"\n"


def failure_of(error: CiliumpyError) -> Failure:
    """Return an error with the code that tells a runtime what to do about it."""
    code = TRY_AGAIN_LATER
    if isinstance(error, UnknownContainerError):
        code = UNKNOWN_CONTAINER
    elif isinstance(error, CannotTakeOverError):
        code = INVALID_CONFIG
    elif isinstance(error, DiffersError):
        code = DIFFERS
    return Failure(code, error.message, error.hint or "")


def request_fault(message: Message, *, has_namespace: bool) -> Failure | None:
    """Return what is wrong with a request that names a container."""
    if not message.container_id or not message.ifname:
        return Failure(INVALID_ENVIRONMENT, "the request has no container or no interface")
    if message.command != "DEL" and not has_namespace:
        return Failure(INVALID_ENVIRONMENT, "the request has no network namespace")
    if message.command == "ADD" and (fault := _name_fault(message)):
        return Failure(INVALID_ENVIRONMENT, fault)
    return None


def _name_fault(message: Message) -> str:
    """Return what is wrong with the pod's names: they go to the log, to the store, and to who looks at flows."""
    if not message.pod_name and not message.pod_namespace:
        return ""  # a runtime without Kubernetes
    metadata = {"name": message.pod_name, "namespace": message.pod_namespace}
    try:
        key_of({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    except FieldError as error:
        return f"K8S_POD_{str(error.path[-1]).upper()}: {error.message}"
    return ""


def previous_of(message: Message) -> Previous:
    """Return what `prevResult` says of the request's interface. CannotTakeOverError: an address cannot be read."""
    result = message.previous or Result()
    interfaces, wanted = result.interfaces or (), []
    for number, interface in enumerate(interfaces):
        if interface.name == message.ifname and interface.sandbox:
            wanted.append(number)
    addresses = [ip.address for ip in result.ips or () if ip.interface is None or ip.interface in wanted]
    routes = [(r.dst, r.gw or "") for r in result.routes or () if r.table in {None, _MAIN_TABLE}]
    try:
        for address in (*addresses, *(dst for dst, _ in routes)):
            ipaddress.ip_interface(address)
    except ValueError as error:
        raise CannotTakeOverError(f"prevResult cannot be read: {error}") from None
    return Previous(
        tuple(addresses), tuple(routes), tuple(Device(i.name, i.mac, i.mtu, bool(i.sandbox)) for i in interfaces)
    )


def result_of(endpoint: Endpoint, gateway: Gateway, netns: str) -> dict[str, Any]:
    """Return the endpoint as a CNI 1.1.0 result."""
    ips, routes = [], []
    for address, router, length, default in (
        (endpoint.ipv4, gateway.ipv4, 32, "0.0.0.0/0"),
        (endpoint.ipv6, gateway.ipv6, 128, "::/0"),
    ):
        if address:
            ips.append({"address": f"{address}/{length}", "gateway": router, "interface": 1})
            routes.append({"dst": default, "gw": router})
    return {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": endpoint.host_interface, "mac": endpoint.host_mac, "mtu": gateway.mtu},
            {"name": endpoint.interface, "mac": endpoint.mac, "mtu": gateway.mtu, "sandbox": netns},
        ],
        "ips": ips,
        "routes": routes,
        "dns": {},
    }
