# SPDX-License-Identifier: Apache-2.0
"""The part of a port rule that is for proxies: which proxy, which goes before which, what it is asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model.cnp_l7_rules import decode_dns, decode_http, decode_legacy
from ciliumpy.model.errors import FieldError
from ciliumpy.model.fields import Fields, as_text, meant, type_name
from ciliumpy.model.rule import Proxy
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ciliumpy.model.cnp_ports import Port
    from ciliumpy.model.cnp_scope import Scope
    from ciliumpy.model.errors import Path

# The lower goes before the higher where two are for one packet. Listeners may have their own, before all others.
PRIORITIES = {"http": 101, "l7": 111, "tls": 116, "dns": 121, "listener": 126}
LAST_OWN_PRIORITY = 100
LONGEST_SUMMARY = 120
_KINDS = ("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")
_NO_PROXY = "is for a proxy, and none is served yet: what it is about is dropped"
_RULE_HINTS = {"kafka": "unknown field: rules for Kafka are no longer part of the language"}


def decode_proxy(fields: Fields, scope: Scope, ports: Sequence[Port]) -> Proxy | None:
    """Who gets the packets of an entry of toPorts; None if no proxy does."""
    kind, asked = _rules(fields, scope, ports)
    names = [_server_name(value, at) for value, at in fields.items("serverNames") or ()]
    contexts = [_tls(context) for side in ("terminatingTLS", "originatingTLS") if (context := fields.fields(side))]
    if names and kind is not None and not fields.has("terminatingTLS"):
        raise FieldError(fields.at("serverNames"), "cannot stand beside rules without terminatingTLS")
    listener = fields.fields("listener")
    if listener is not None:
        if kind is not None:
            raise FieldError(listener.path, "cannot stand beside rules")
        proxy = _listener(listener, scope)
    elif asked:
        proxy = Proxy(PRIORITIES[kind or ""], kind or "", summary(kind or "", asked))
    elif names or contexts:
        proxy = Proxy(PRIORITIES["tls"], "tls", summary("tls", names or [f"secret {name}" for name in contexts]))
    else:
        return None
    at = next(
        name for name in ("rules", "listener", "serverNames", "terminatingTLS", "originatingTLS") if fields.get(name)
    )
    scope.notice(fields.at(at), _NO_PROXY)
    return proxy


def summary(kind: str, asked: Iterable[str]) -> str:
    """What is asked for, in a few words: http GET /public, POST /upload."""
    known = list(dict.fromkeys(asked))
    text = f"{kind} {', '.join(known)}"
    shown = len(known)
    while len(text) > LONGEST_SUMMARY and shown > 1:
        shown -= 1
        text = f"{kind} {', '.join(known[:shown])} and {len(known) - shown} more"
    return text if len(text) <= LONGEST_SUMMARY else text[: LONGEST_SUMMARY - 3] + "..."


def _rules(fields: Fields, scope: Scope, ports: Sequence[Port]) -> tuple[str | None, list[str]]:
    """The kind of rules that stands here, and what they ask for: an empty list of rules is there, and asks nothing."""
    rules = fields.fields("rules")
    if rules is None:
        return None, []
    lists = {"http": rules.items("http"), "dns": rules.items("dns")}
    proto, legacy = rules.text("l7proto") or "", rules.items("l7")
    rules.finish(_RULE_HINTS)
    kinds = [kind for kind, items in lists.items() if items is not None] + (["l7"] if proto else [])
    if legacy is not None and not proto:
        raise FieldError(rules.at("l7"), "needs l7proto beside it")
    if not kinds:
        return None, []
    _check(rules, scope, ports, kinds, dns=bool(lists["dns"]))
    [kind] = kinds
    if kind == "http":
        return kind, decode_http(lists["http"] or [])
    if kind == "dns":
        return kind, decode_dns(lists["dns"] or [])
    return kind, decode_legacy(proto, legacy or [])


def _check(rules: Fields, scope: Scope, ports: Sequence[Port], kinds: list[str], *, dns: bool) -> None:
    """Where rules of these kinds may not stand at all."""
    if not scope.options.l7_proxy:
        raise FieldError(rules.path, "rules for proxies are off: set policy.l7Proxy")
    if len(kinds) > 1:
        raise FieldError(rules.path, f"{' and '.join(kinds)} cannot stand together: write a toPorts entry for each")
    if scope.node and (scope.direction is Direction.INGRESS or not dns):
        raise FieldError(rules.path, "a node's policy can have no rules for proxies but dns in egress")
    if dns and scope.direction is Direction.INGRESS:
        raise FieldError(rules.at("dns"), "is for egress only")
    if "dns" in kinds and not ports:
        raise FieldError(rules.at("dns"), 'needs ports: write ports: [{port: "53"}]')
    if dns and (found := next((port for port in ports if port.is_range), None)):
        raise FieldError((*found.path, "endPort"), "cannot be used with dns rules")
    if not dns and (found := next((port for port in ports if not port.only_tcp), None)):
        raise FieldError(
            rules.at({"l7": "l7proto"}.get(kinds[0], kinds[0])),
            f"needs protocol: TCP, spelled out: {_entry(found)} is for others too",
        )
    if found := next((port for port in ports if port.every), None):
        raise FieldError(rules.path, f"needs a port other than 0: {_entry(found)} is for all")


def _entry(port: Port) -> str:
    return f"{port.path[-2]}[{port.path[-1]}]"


def _server_name(value: Any, path: Path) -> str:
    name = as_text(value, path)
    if not name:
        raise FieldError(path, "is empty")
    return name


def _tls(fields: Fields) -> str:
    secret = fields.fields("secret")
    if secret is None:
        raise fields.missing("secret")
    name = decode_secret(secret)
    for key in ("trustedCA", "certificate", "privateKey"):
        fields.text(key)
    fields.finish()
    return name


def decode_secret(fields: Fields) -> str:
    namespace, name = fields.text("namespace") or "", fields.text("name") or ""
    if not name:
        raise fields.missing("name")
    fields.finish()
    return f"{namespace}/{name}" if namespace else name


def _listener(fields: Fields, scope: Scope) -> Proxy:
    if scope.direction is Direction.INGRESS:
        raise FieldError(fields.path, "is for egress only")
    config = fields.fields("envoyConfig")
    if config is None:
        raise fields.missing("envoyConfig")
    kind = config.text("kind") or _KINDS[scope.namespace is None]
    if kind not in _KINDS:
        raise FieldError(config.at("kind"), f"must be {' or '.join(_KINDS)}{meant(kind, _KINDS)}")
    if scope.namespace is None and kind == _KINDS[0]:
        raise FieldError(config.at("kind"), f"a policy without a namespace needs a {_KINDS[1]}")
    where, name = config.text("name"), fields.text("name")
    config.finish({"namespace": "unknown field: the policy's own namespace is meant"})
    for text, at in ((where, config), (name, fields)):
        if not text:
            raise at.missing("name")
    priority = _priority(fields)
    fields.finish()
    return Proxy(priority, "listener", summary("listener", [f"{where}/{name}"]))


def _priority(fields: Fields) -> int:
    value = fields.get("priority")
    if value is None:
        return PRIORITIES["listener"]
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(fields.at("priority"), f"must be a number, not {type_name(value)}")
    if not 1 <= value <= LAST_OWN_PRIORITY:
        raise FieldError(fields.at("priority"), f"must be from 1 to {LAST_OWN_PRIORITY}, not {value}")
    return value
