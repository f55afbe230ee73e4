# SPDX-License-Identifier: Apache-2.0
"""A document into a row of the source tables: only the fields that are used, and those well.

A field that is absent or null has its default; one that is there and does not fit raises FieldError with its path.
Fields that nobody here reads are accepted, as the API server accepted them; inside a policy's spec they are refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ciliumpy.model.cluster_np import decode_cluster_network_policy
from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.errors import FieldError, Path, path_text
from ciliumpy.model.fields import Fields, as_text
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.model.labels import parse, texts
from ciliumpy.store.decode_services import cidr_group, endpoint_slice, service
from ciliumpy.store.kinds import KINDS, POLICY_KINDS
from ciliumpy.store.parts import by_family, check_ip, labels_of, number, texts_of
from ciliumpy.tables import source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.model.rule import DecodedPolicy
    from ciliumpy.state.table import TableSpec
    from ciliumpy.store.interface import Key

PROTOCOLS = ("TCP", "UDP", "SCTP")
_TEMPLATE_HASH = "pod-template-hash"
_NAMESPACE_NAME = "kubernetes.io/metadata.name"  # the API server puts it on every namespace
_MOST_IDENTITY = (1 << 24) - 1  # what a tunnel header can carry
_POLICY_FIELDS = ("apiVersion", "kind", "metadata", "spec", "specs", "status")

# Kinds that would cut traffic and do not yet: to pass over them quietly would be to fail open.
UNENFORCED = {"AdminNetworkPolicy", "BaselineAdminNetworkPolicy"}


class Decoded(NamedTuple):
    """The row, the table it belongs to, and notices: (path, text)."""

    spec: TableSpec[Any]
    row: Any
    notices: tuple[tuple[Path, str], ...] = ()


def version_of(document: Mapping[str, Any]) -> str:
    """Return what changes with an object's content, and not with how its text is laid out."""
    return hashlib.blake2b(msgspec.json.encode(document), digest_size=8).hexdigest()


def check_kind(document: Mapping[str, Any]) -> str | None:
    """Return None where the document's kind is known, else what to say. FieldError on a wrong API version."""
    kind = KINDS.get(document["kind"])
    if kind is None:
        return f"objects of kind {document['kind'][:80]} have no effect in this version"
    kind.check_version(document["apiVersion"])
    return None


def decode(key: Key, document: dict[str, Any], *, origin: str, options: PolicyOptions) -> Decoded | None:
    """Return the row of an object; None for kinds that are no rows here (Deployment). FieldError if it is not valid."""
    decoder = _DECODERS.get(key.kind)
    if decoder is not None:
        return decoder(key, document, options.cluster)
    if key.kind in POLICY_KINDS:
        return _policy(key, document, origin, options)
    return None


def _policy(key: Key, document: dict[str, Any], origin: str, options: PolicyOptions) -> Decoded:
    decoded = _POLICIES.get(key.kind, decode_policy)(document, options)
    notices = tuple((notice.path, notice.message) for notice in decoded.notices)
    extra = tuple(((name,), "has no effect") for name in document if name not in _POLICY_FIELDS)
    row = source.Policy(
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        rules=decoded.rules,
        origin=origin,
        notices=tuple(f"{path_text(path)}: {text}" for path, text in notices),
        version=version_of(document),
    )
    return Decoded(source.POLICIES, row, notices + extra)


def _namespace(key: Key, document: dict[str, Any], _cluster: str) -> Decoded:
    labels = dict(labels_of(document)) | {_NAMESPACE_NAME: key.name}
    return Decoded(source.NAMESPACES, source.Namespace(key.name, tuple(sorted(labels.items()))))


def _pod(key: Key, document: dict[str, Any], _cluster: str) -> Decoded:
    top = Fields(document, ())
    spec = top.fields("spec") or Fields({}, top.at("spec"))
    metadata = Fields(document["metadata"], top.at("metadata"))
    ports: list[source.NamedPort] = []
    for container, path in spec.items("containers") or []:
        for value, where in Fields(container, path).items("ports") or []:
            port = _named_port(Fields(value, where))
            if port is not None:
                ports.append(port)
    labels = labels_of(document)
    workload_kind, workload_name = _workload(metadata, dict(labels))
    row = source.Pod(
        namespace=key.namespace,
        name=key.name,
        uid=metadata.text("uid") or "",
        node=spec.text("nodeName") or "",
        labels=labels,
        service_account=spec.text("serviceAccountName") or spec.text("serviceAccount") or "default",
        host_network=spec.boolean("hostNetwork") or False,
        ports=tuple(ports),
        ips=_pod_ips(document.get("status")),
        workload_kind=workload_kind,
        workload_name=workload_name,
    )
    return Decoded(source.PODS, row)


def _pod_ips(status: Any) -> tuple[str, ...]:
    """The addresses of a pod that runs, canonical. What of a status is no address is passed over: nobody wrote it."""
    if not isinstance(status, dict) or status.get("phase") in ("Succeeded", "Failed"):
        return ()
    several = status.get("podIPs")
    said = [each.get("ip") for each in several if isinstance(each, dict)] if isinstance(several, list) else []
    found = []
    for text in (status.get("podIP"), *said):
        try:
            found.append(str(ipaddress.ip_address(text if isinstance(text, str) and "%" not in text else "")))
        except ValueError:
            continue
    return tuple(dict.fromkeys(found))


def _named_port(fields: Fields) -> source.NamedPort | None:
    number = fields.get("containerPort")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65535:
        raise FieldError(fields.at("containerPort"), f"must be a number from 1 to 65535, not {str(number)[:80]}")
    protocol = fields.text("protocol") or "TCP"
    if protocol not in PROTOCOLS:
        raise FieldError(fields.at("protocol"), f"must be one of {', '.join(PROTOCOLS)}, not {protocol[:80]}")
    name = fields.text("name")
    return source.NamedPort(name, protocol, number) if name else None


def _workload(metadata: Fields, labels: Mapping[str, str]) -> tuple[str, str]:
    """The owner as users know it: a ReplicaSet that a Deployment made counts as the Deployment."""
    for value, path in metadata.items("ownerReferences") or []:
        owner = Fields(value, path)
        kind, name = owner.text("kind") or "", owner.text("name") or ""
        suffix = "-" + labels.get(_TEMPLATE_HASH, "")
        if kind == "ReplicaSet" and suffix != "-" and name.endswith(suffix):
            return "Deployment", name.removesuffix(suffix)
        return kind, name
    return "", ""


def _node(key: Key, document: dict[str, Any], cluster: str) -> Decoded:
    top = Fields(document, ())
    spec = top.fields("spec") or Fields({}, top.at("spec"))
    internal: list[str] = []
    router: list[str] = []
    for value, path in spec.items("addresses") or []:
        address = Fields(value, path)
        ip = address.text("ip") or ""
        check_ip(ip, address.at("ip"))
        {"InternalIP": internal, "CiliumInternalIP": router}.get(address.text("type") or "", []).append(ip)
    ipam = spec.fields("ipam") or Fields({}, spec.at("ipam"))
    cidrs = []
    for value, path in ipam.items("podCIDRs") or []:
        cidrs.append(as_text(value, path))
        check_ip(cidrs[-1], path, network=True)
    row = source.Node(
        name=key.name,
        cluster=cluster,
        internal_ips=by_family(internal),
        router_ips=by_family(router),
        pod_cidrs=by_family(cidrs),
        labels=labels_of(document),
    )
    return Decoded(source.NODES, row)


def _identity(key: Key, document: dict[str, Any], _cluster: str) -> Decoded:
    if not key.name.isdecimal() or str(int(key.name)) != key.name or not 1 <= int(key.name) <= _MOST_IDENTITY:
        raise FieldError(("metadata", "name"), f"must be the identity's number, 1 to {_MOST_IDENTITY}")
    labels = texts_of(document.get("security-labels"), ("security-labels",))
    row = source.IdentityObject(int(key.name), texts(parse(name)._replace(value=value) for name, value in labels))
    return Decoded(source.IDENTITY_OBJECTS, row)


def _endpoint(key: Key, document: dict[str, Any], _cluster: str) -> Decoded:
    top = Fields(document, ())
    status = top.fields("status") or Fields({}, top.at("status"))
    identity = status.fields("identity") or Fields({}, status.at("identity"))
    networking = status.fields("networking") or Fields({}, status.at("networking"))
    ips = []
    for value, path in networking.items("addressing") or []:
        pair = Fields(value, path)
        for name in ("ipv4", "ipv6"):
            if ip := pair.text(name):
                check_ip(ip, pair.at(name))
                ips.append(ip)
    node_ip = networking.text("node") or ""
    if node_ip:
        check_ip(node_ip, networking.at("node"))
    row = source.EndpointObject(
        namespace=key.namespace,
        name=key.name,
        id=number(status, "id"),
        identity=number(identity, "id"),
        node=networking.text("nodeName") or "",
        node_ip=node_ip,
        ips=by_family(ips),
    )
    return Decoded(source.ENDPOINT_OBJECTS, row)


def _plain(
    spec: TableSpec[Any], decoder: Callable[[Key, dict[str, Any]], Any]
) -> Callable[[Key, dict[str, Any], str], Decoded]:
    return lambda key, document, _cluster: Decoded(spec, decoder(key, document))


_POLICIES: Mapping[str, Callable[[dict[str, Any], PolicyOptions], DecodedPolicy]] = {
    "NetworkPolicy": decode_network_policy,
    "ClusterNetworkPolicy": decode_cluster_network_policy,
}
_DECODERS: Mapping[str, Callable[[Key, dict[str, Any], str], Decoded]] = {
    "Namespace": _namespace,
    "Pod": _pod,
    "Service": _plain(source.SERVICES, service),
    "EndpointSlice": _plain(source.ENDPOINT_SLICES, endpoint_slice),
    "CiliumCIDRGroup": _plain(source.CIDR_GROUPS, cidr_group),
    "CiliumNode": _node,
    "CiliumIdentity": _identity,
    "CiliumEndpoint": _endpoint,
}
