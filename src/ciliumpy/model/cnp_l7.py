# SPDX-License-Identifier: Apache-2.0
"""The part of a port rule that is for proxies: checked as Cilium does, not yet supported."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, as_text
from ciliumpy.model.ports import Protocol
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from ciliumpy.model.cnp_scope import Scope

Ports = list[tuple[tuple[Protocol, ...], str, int, int]]  # protocols, name, number, endPort
_TLS = ("terminatingTLS", "originatingTLS")
DNS_NAME = re.compile(r"[-a-zA-Z0-9_.]+\.?")
DNS_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+\.?")


def check_l7(fields: Fields, scope: Scope, ports: Ports) -> Path | None:
    """Refuses what Cilium refuses; returns the path of the first part that needs a proxy, or None."""
    if scope.deny:
        return None
    kinds = _rules(fields, scope, ports)
    names = fields.items("serverNames") or []
    for name, path in names:
        if not as_text(name, path):
            raise FieldError(path, "is empty")
    listener = fields.fields("listener")
    if names and "http" in kinds and not any(fields.has(field) for field in _TLS):
        raise FieldError(fields.at("serverNames"), "cannot stand beside http rules without terminatingTLS")
    if listener is not None:
        if kinds:
            raise FieldError(listener.path, "cannot stand beside rules")
        if scope.direction is Direction.INGRESS:
            raise FieldError(listener.path, "is for egress only")
    if kinds:
        return fields.at("rules")
    return next((fields.at(name) for name in ("serverNames", "listener", *_TLS) if fields.get(name)), None)


def _rules(fields: Fields, scope: Scope, ports: Ports) -> set[str]:
    rules = fields.fields("rules")
    if rules is None:
        return set()
    http, dns = rules.items("http"), rules.items("dns")
    others = {name for name in ("l7proto", "l7", "kafka") if rules.get(name)}
    rules.finish()
    # An empty list of rules is no rule: the ports are allowed as if nothing stood here.
    kinds = {name for name, value in (("http", http), ("dns", dns)) if value} | others
    if http and dns:
        raise FieldError(rules.path, "http and dns cannot stand together: one kind of rules for a list of ports")
    if kinds and scope.node:
        raise FieldError(rules.path, "a node's policy cannot have rules for proxies")
    if kinds and any(not name and number == 0 for _, name, number, _ in ports):
        raise FieldError(rules.path, "needs a port other than 0")
    if http:
        _http(rules, http, ports)
    if dns:
        _dns(rules, dns, scope, ports)
    return kinds


def _http(rules: Fields, entries: list[tuple[object, Path]], ports: Ports) -> None:
    if any(protocols != (Protocol.TCP,) for protocols, *_ in ports):
        raise FieldError(rules.at("http"), "needs protocol TCP, spelled out for every port")
    for entry, where in entries:
        fields = Fields(entry, where)
        for name in ("path", "method", "host"):
            if text := fields.text(name):
                try:
                    re.compile(text)
                except re.error as error:
                    raise FieldError(fields.at(name), f"{text!r} is not a regular expression: {error}") from None
        fields.ignore("headers", "headerMatches")
        fields.finish()


def _dns(rules: Fields, entries: list[tuple[object, Path]], scope: Scope, ports: Ports) -> None:
    if scope.direction is Direction.INGRESS:
        raise FieldError(rules.at("dns"), "is for egress only")
    if not ports:
        raise FieldError(rules.at("dns"), "needs ports")
    if any(last for *_, last in ports):
        raise FieldError(rules.at("dns"), "cannot be used with endPort")
    for entry, where in entries:
        check_dns_name(Fields(entry, where))


def check_dns_name(fields: Fields) -> None:
    """A matcher of names: exactly one of matchName and matchPattern."""
    name, pattern = fields.text("matchName"), fields.text("matchPattern")
    if bool(name) == bool(pattern):
        raise FieldError(fields.path, "must have either matchName or matchPattern")
    for field, text, allowed in (("matchName", name, DNS_NAME), ("matchPattern", pattern, DNS_PATTERN)):
        if text and not allowed.fullmatch(text):
            raise FieldError(fields.at(field), f"{text!r} is not a DNS name")
    fields.finish()
