# SPDX-License-Identifier: Apache-2.0
"""PURE: the options that change what a policy may say, from Cilium's ConfigMap or from an agent's configuration."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from ciliumpy.model.errors import FieldError
from ciliumpy.model.options import PolicyOptions

NAMES = {  # key of the ConfigMap cilium-config, or flag of cilium-agent -> field
    "cluster-name": "cluster",
    "enable-policy": "enforcement",
    "enable-ipv4": "ipv4",
    "enable-ipv6": "ipv6",
    "enable-host-firewall": "host_firewall",
    "allow-localhost": "allow_localhost",
    "enable-node-selector-labels": "node_selector_labels",
    "enable-k8s-cluster-network-policy": "cluster_network_policy",
    "enable-icmp-rules": "icmp_rules",
    "enable-l7-proxy": "l7_proxy",
    "policy-cidr-match-mode": "cidr_match_mode",
    "policy-audit-mode": "audit_mode",
}
_ELSEWHERE = {"cluster": ("node", "cluster"), "ipv4": ("network", "ipv4"), "ipv6": ("network", "ipv6")}
_WORDS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}  # as Go reads a bool


def with_named(options: PolicyOptions, name: str, text: str) -> PolicyOptions:
    """Return the options with one changed, by its name in the ConfigMap. FieldError: no such name, or no such value."""
    field = NAMES.get(name)
    if field is None:
        close = difflib.get_close_matches(name, NAMES, n=1)
        raise FieldError((name,), "no such option" + (f", did you mean {close[0]}?" if close else ""))
    return _with(options, field, text, (name,))


def from_document(document: Any) -> PolicyOptions:
    """Return the options of a ConfigMap (`data`), or of an agent's configuration (`policy`, `node.cluster`, …).

    Keys of the ConfigMap that change no policy are passed over. FieldError where one has no such value.
    """
    options = PolicyOptions()
    if not isinstance(document, dict):
        raise FieldError((), "must be a ConfigMap, or the configuration of an agent")
    if document.get("kind") == "ConfigMap":
        for name, text in _mapping(document, "data").items():
            if name in NAMES:
                options = _with(options, NAMES[name], text, ("data", name))
        return options
    if "kind" in document:
        raise FieldError(("kind",), f"must be ConfigMap, not {str(document['kind'])[:80]}")
    for field in PolicyOptions.__struct_fields__:
        part, key = _ELSEWHERE.get(field, ("policy", _camel(field)))
        value = _mapping(document, part).get(key)
        if value is not None:
            options = _with(options, field, value, (part, key))
    return options


def _mapping(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise FieldError((key,), "must be a mapping")
    return value


def _with(options: PolicyOptions, field: str, value: Any, path: tuple[str, ...]) -> PolicyOptions:
    if field == "cidr_match_mode" and isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    elif field == "allow_localhost" and value == "auto":
        value = "always"
    elif isinstance(getattr(options, field), bool) and isinstance(value, str):
        value = _WORDS.get(value.lower(), value)
    said = {name: getattr(options, name) for name in options.__struct_fields__}
    try:
        return msgspec.convert({**said, field: value}, PolicyOptions)
    except msgspec.ValidationError as error:
        raise FieldError(path, f"{value!r} does not fit: {str(error).partition(' - at')[0]}") from None


def _camel(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)
