# SPDX-License-Identifier: Apache-2.0
"""What the policies of Kubernetes itself select by: labels of pods and of namespaces, and prefixes outside."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec

from ciliumpy.model.cidr import key_of
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import as_text
from ciliumpy.model.identity import world
from ciliumpy.model.label_selectors import decode_selector
from ciliumpy.model.labels import NAMESPACE, NAMESPACE_LABELS
from ciliumpy.model.selectors import CIDR, NOBODY, Operator, Requirement, Selector, exists, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.model.options import PolicyOptions

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ANY_NAMESPACE = exists("k8s", NAMESPACE)  # what all pods have, and neither nodes nor the world


def pod_labels(value: Any, path: Path) -> list[Requirement]:
    """The requirements of a pod selector; none of `{}`."""
    found = []
    for requirement in decode_selector(value, path):
        if requirement.source != "any":
            said = f"'{requirement.source}:{requirement.key}' is not a label key: here keys have no source before them"
            raise FieldError(path, said)
        found.append(msgspec.structs.replace(requirement, source="k8s"))
    return found


def namespace_labels(value: Any, path: Path) -> list[Requirement]:
    """The requirements of a namespace selector, to be met by pods; `{}` is met by every pod."""
    own = [msgspec.structs.replace(r, key=NAMESPACE_LABELS + r.key) for r in pod_labels(value, path)]
    return [ANY_NAMESPACE, *own]


def prefix(value: Any, path: Path) -> Network:
    """A prefix; bits beyond its length are dropped. FieldError for a bare address."""
    text = as_text(value, path)
    if "/" not in text:
        raise FieldError(path, f"{text[:80]!r} has no prefix length: write {text[:80]}/{128 if ':' in text else 32}")
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise FieldError(path, f"{text[:80]!r} is not a CIDR") from None


def check_within(hole: Network, outer: Network, path: Path) -> None:
    if hole.version != outer.version or not hole.subnet_of(outer):  # type: ignore[arg-type]
        raise FieldError(path, f"{hole} is not part of {outer}")


def outside(network: Network, holes: Iterable[Network], options: PolicyOptions) -> Selector:
    """Who is in a prefix but in none of the holes; in the prefix of all addresses is their family's world."""
    holes = list(holes)
    if network in holes:
        return NOBODY
    without = [Requirement(CIDR, key_of(str(hole)), Operator.DOES_NOT_EXIST) for hole in holes]
    found = [[exists(CIDR, key_of(str(network))), *without]]
    if not network.prefixlen and (options.ipv4 if network.version == 4 else options.ipv6):
        name = world(ipv6_address=network.version == 6, ipv4=options.ipv4, ipv6=options.ipv6).label
        found.append([exists("reserved", name), *without])
    return one_of(found)
