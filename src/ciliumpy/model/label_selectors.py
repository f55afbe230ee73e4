# SPDX-License-Identifier: Apache-2.0
"""Decoding a label selector (matchLabels, matchExpressions), and what a policy's scope adds to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, as_text, meant
from ciliumpy.model.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS
from ciliumpy.model.selectors import CIDR, Operator, Requirement, Selector, all_of, equals, exists, network, one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONLY_THERE = "to ask only whether the label is there use matchExpressions with operator: Exists"
_FIELDS = ("matchLabels", "matchExpressions")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def decode_selector(value: Any, path: Path) -> tuple[Requirement, ...]:
    """The requirements as written; a key without a source has source `any`."""
    fields = Fields(value, path)
    found: list[Requirement] = []
    if (labels := fields.get("matchLabels")) is not None:
        where = fields.at("matchLabels")
        if isinstance(labels, list):
            raise FieldError(where, "must be a mapping, not a list: write key: value without a dash before it")
        Fields(labels, where)
        for key, text in labels.items():
            source, name = _key(key, (*where, key))
            found.append(equals(source, name, _value(text, (*where, key))))
    for entry, where in fields.items("matchExpressions") or ():
        found.append(_expression(Fields(entry, where)))
    hints = {
        name: f"unknown field: labels stand in matchLabels: {{{name[:80]}: ...}}"
        for name, text in value.items()
        if name not in _FIELDS and isinstance(text, str) and not meant(name, _FIELDS)
    }
    fields.finish(hints)
    return tuple(found)


def _expression(fields: Fields) -> Requirement:
    key = fields.text("key")
    if key is None:
        raise fields.missing("key")
    source, name = _key(key, fields.at("key"))
    operator = fields.text("operator")
    if operator not in set(Operator):
        if not operator:
            raise fields.missing("operator", f"is missing: use one of {', '.join(Operator)}")
        raise FieldError(fields.at("operator"), _not_an_operator(operator))
    values = tuple(sorted({_value(value, where) for value, where in fields.items("values") or ()}))
    wants = operator in (Operator.IN, Operator.NOT_IN)
    if wants and not values:
        raise fields.missing("values", f"must name at least one value, because the operator is {operator}")
    if not wants and values:
        raise FieldError(fields.at("values"), f"must be empty, because the operator is {operator}")
    fields.finish()
    return Requirement(source, name, Operator(operator), values)


def _not_an_operator(text: str) -> str:
    signs = {"=": "In", "==": "In", "!=": "NotIn", "Equals": "In", "NotEquals": "NotIn", "NotExists": "DoesNotExist"}
    hint = f", did you mean {signs[text]}?" if text in signs else meant(text, Operator)
    return f"must be one of {', '.join(Operator)}, not {text[:80]!r}{hint}"


def _key(key: str, path: Path) -> tuple[str, str]:
    source, colon, name = key.partition(":")
    if not colon:
        source, name = "any", key
    prefix, slash, last = name.rpartition("/")
    if not _NAME.fullmatch(last) or (slash and not _PREFIX.fullmatch(prefix)):
        raise FieldError(path, _not_a_key(key))
    if source == CIDR:
        _check_prefix(name, path)
    return source, name


def _not_a_key(key: str) -> str:
    said = f"{key[:80]!r} is not a label key"
    head, equal, value = key.partition("=")
    if equal:
        return f"{said}: write {head}: {value or '...'}"
    if key != key.strip():
        return f"{said}: it begins or ends with a space"
    if len(key.rpartition("/")[2].rpartition(":")[2]) > 63:
        return f"{said}: a name has at most 63 characters"
    return f"{said}: [source:][prefix/]name of letters, digits, '-', '_', '.', beginning and ending with no sign"


def _check_prefix(name: str, path: Path) -> None:
    try:
        network(name)
    except ValueError:
        raise FieldError(path, f"'cidr:{name[:80]}' is not a label of a prefix: use a rule's CIDR fields") from None


def _value(value: Any, path: Path) -> str:
    if value is None:
        raise FieldError(path, f"must be text, not empty; {_ONLY_THERE}")
    text = as_text(value, path)
    if len(text) > 63:
        raise FieldError(path, f"{text[:80]!r} is not a label value: it has more than 63 characters")
    if not _VALUE.fullmatch(text):
        hint = _ONLY_THERE if text == "*" else "letters, digits, '-', '_', '.', beginning and ending with no sign"
        raise FieldError(path, f"{text!r} is not a label value: {hint}")
    return text


def subject_selector(requirements: Sequence[Requirement], namespace: str | None) -> Selector:
    """Whom a policy is about: in a namespace (None: cluster-wide) only pods of it, whatever the selector says."""
    if namespace is None:
        return all_of(*requirements)
    own = equals("k8s", NAMESPACE, namespace)
    others = [r for r in requirements if (r.source, r.key, r.operator) != ("k8s", NAMESPACE, Operator.IN)]
    return all_of(own, *others)


def peer_selector(
    requirements: Sequence[Requirement], namespace: str | None, cluster: str, *, init: bool = False
) -> Selector:
    """Whom a rule means as peer: of the policy's namespace and cluster, unless it says otherwise.

    `init`: the policy is about pods without labels yet; then a cluster-wide one may mean any peer of the cluster.
    """
    if any(r.source == "reserved" for r in requirements):
        return all_of(*requirements)
    named = {r.key for r in requirements if r.source in ("k8s", "any")}
    added: list[Requirement] = []
    if namespace is None:
        if NAMESPACE not in named and not init:
            added.append(exists("k8s", NAMESPACE))
    elif NAMESPACE not in named and not any(key.startswith(NAMESPACE_LABELS) for key in named):
        added.append(equals("k8s", NAMESPACE, namespace))
    if CLUSTER not in named:
        added.append(equals("k8s", CLUSTER, cluster))
    return all_of(*requirements, *added)


def node_subject(requirements: Sequence[Requirement]) -> Selector:
    """Which nodes a policy is about, as their agents see them: each its own, which is its host."""
    return all_of(exists("reserved", "host"), *of_source("node", requirements))


def node_peers(requirements: Sequence[Requirement]) -> Selector:
    """Nodes as peers: the own one, and the others."""
    of_nodes = of_source("node", requirements)
    return one_of([exists("reserved", name), *of_nodes] for name in ("host", "remote-node"))


def of_source(source: str, requirements: Sequence[Requirement]) -> list[Requirement]:
    """The requirements, where they name no source of this one."""
    return [Requirement(source, r.key, r.operator, r.values) if r.source == "any" else r for r in requirements]
