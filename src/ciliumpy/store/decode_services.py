# SPDX-License-Identifier: Apache-2.0
"""What policies name besides pods: services with what is behind them, and groups of prefixes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from ciliumpy.model.cidr_selectors import parse_prefix
from ciliumpy.model.errors import FieldError
from ciliumpy.model.fields import Fields, as_text
from ciliumpy.store.parts import labels_of, texts_of
from ciliumpy.tables import source

if TYPE_CHECKING:
    from ciliumpy.store.interface import Key

_SERVICE_NAME = "kubernetes.io/service-name"  # the label that says whose slice it is
_FAMILIES = {"IPv4": 4, "IPv6": 6, "FQDN": 0}


def service(key: Key, document: dict[str, Any]) -> source.Service:
    top = Fields(document, ())
    spec = top.fields("spec") or Fields({}, top.at("spec"))
    selector = texts_of(spec.get("selector"), spec.at("selector"))
    if spec.text("type") == "ExternalName":
        selector = ()  # it is a name for something else, whatever it selects
    return source.Service(key.namespace, key.name, labels_of(document), selector)


def endpoint_slice(key: Key, document: dict[str, Any]) -> source.EndpointSlice:
    """Its addresses are those of endpoints that serve: ready, or on their way out and serving still."""
    top = Fields(document, ())
    kind = top.text("addressType")
    if kind not in _FAMILIES:
        said = "is missing" if kind is None else f"must be one of {', '.join(_FAMILIES)}, not {kind[:80]!r}"
        raise FieldError(top.at("addressType"), said)
    addresses: list[str] = []
    for value, path in top.items("endpoints") or []:
        endpoint = Fields(value, path)
        conditions = endpoint.fields("conditions") or Fields({}, endpoint.at("conditions"))
        ready, serving = conditions.boolean("ready"), conditions.boolean("serving")
        for text, where in endpoint.items("addresses") or []:
            address = as_text(text, where)
            if _FAMILIES[kind]:
                try:
                    parsed = ipaddress.ip_address(address)
                except ValueError:
                    parsed = None
                if parsed is None or parsed.version != _FAMILIES[kind]:
                    raise FieldError(where, f"{address[:80]!r} is no {kind} address")
                if ready is not False or serving:
                    addresses.append(str(parsed))
    name = dict(labels_of(document)).get(_SERVICE_NAME, "")
    return source.EndpointSlice(key.namespace, key.name, name, tuple(dict.fromkeys(addresses)))


def cidr_group(key: Key, document: dict[str, Any]) -> source.CidrGroup:
    top = Fields(document, ())
    spec = top.fields("spec")
    if spec is None:
        raise FieldError(top.at("spec"), "is missing")
    prefixes = [str(parse_prefix(value, path)) for value, path in spec.items("externalCIDRs") or []]
    spec.finish()
    return source.CidrGroup(key.name, labels_of(document), tuple(dict.fromkeys(prefixes)))
