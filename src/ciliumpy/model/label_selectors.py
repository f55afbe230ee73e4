# SPDX-License-Identifier: Apache-2.0
"""Decoding a label selector (matchLabels, matchExpressions), and what a policy's scope adds to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, as_text
from ciliumpy.model.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS
from ciliumpy.model.selectors import Operator, Requirement, Selector, all_of, equals, exists

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def decode_selector(value: Any, path: Path) -> tuple[Requirement, ...]:
    """The requirements as written; a key without a source has source `any`."""
    fields = Fields(value, path)
    found: list[Requirement] = []
    if (labels := fields.get("matchLabels")) is not None:
        where = fields.at("matchLabels")
        Fields(labels, where)
        for key, text in labels.items():
            source, name = _key(key, (*where, key))
            found.append(equals(source, name, _value(text, (*where, key))))
    for entry, where in fields.items("matchExpressions") or ():
        found.append(_expression(Fields(entry, where)))
    fields.finish()
    return tuple(found)


def _expression(fields: Fields) -> Requirement:
    key = fields.text("key")
    if key is None:
        raise FieldError(fields.at("key"), "is missing")
    source, name = _key(key, fields.at("key"))
    operator = fields.text("operator")
    if operator not in set(Operator):
        names = ", ".join(Operator)
        raise FieldError(
            fields.at("operator"), f"must be one of {names}, not {operator!r}" if operator else "is missing"
        )
    values = tuple(sorted({_value(value, where) for value, where in fields.items("values") or ()}))
    wants = operator in (Operator.IN, Operator.NOT_IN)
    if wants and not values:
        raise FieldError(fields.at("values"), f"must name at least one value, because the operator is {operator}")
    if not wants and values:
        raise FieldError(fields.at("values"), f"must be empty, because the operator is {operator}")
    fields.finish()
    return Requirement(source, name, Operator(operator), values)


def _key(key: str, path: Path) -> tuple[str, str]:
    source, colon, name = key.partition(":")
    if not colon:
        source, name = "any", key
    prefix, slash, last = name.rpartition("/")
    if not _NAME.fullmatch(last) or (slash and not _PREFIX.fullmatch(prefix)):
        raise FieldError(path, f"{key!r} is not a label key: [source:][prefix/]name of letters, digits, '-', '_', '.'")
    return source, name


def _value(value: Any, path: Path) -> str:
    text = as_text(value, path)
    if not _VALUE.fullmatch(text):
        raise FieldError(path, f"{text!r} is not a label value: at most 63 letters, digits, '-', '_', '.'")
    return text


def subject_selector(requirements: Sequence[Requirement], namespace: str | None) -> Selector:
    """Whom a policy is about: in a namespace (None: cluster-wide) only pods of it, whatever the selector says."""
    if namespace is None:
        return all_of(*requirements)
    own = equals("k8s", NAMESPACE, namespace)
    others = [r for r in requirements if (r.source, r.key, r.operator) != ("k8s", NAMESPACE, Operator.IN)]
    return all_of(own, *others)


def peer_selector(requirements: Sequence[Requirement], namespace: str | None, cluster: str) -> Selector:
    """Whom a rule means as peer: of the policy's namespace and cluster, unless it says otherwise."""
    if any(r.source == "reserved" for r in requirements):
        return all_of(*requirements)
    named = {r.key for r in requirements if r.source in ("k8s", "any")}
    added: list[Requirement] = []
    if namespace is None:
        if NAMESPACE not in named:
            added.append(exists("k8s", NAMESPACE))
    elif NAMESPACE not in named and not any(key.startswith(NAMESPACE_LABELS) for key in named):
        added.append(equals("k8s", NAMESPACE, namespace))
    if CLUSTER not in named:
        added.append(equals("k8s", CLUSTER, cluster))
    return all_of(*requirements, *added)
