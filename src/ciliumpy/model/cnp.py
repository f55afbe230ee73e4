# SPDX-License-Identifier: Apache-2.0
"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2) into rules.

What is wrong is refused whole, with its path, as Cilium would; unknown fields are refused too. What is right but has
not the effect that one might expect leaves a notice, and never grants more than it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model import cnp_hints
from ciliumpy.model.cnp_peers import decode_peers
from ciliumpy.model.cnp_ports import Part, decode_ports
from ciliumpy.model.cnp_scope import Scope
from ciliumpy.model.errors import FieldError, Path, path_text
from ciliumpy.model.fields import Fields, meant
from ciliumpy.model.label_selectors import node_subject, subject_selector
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.rule import DecodedPolicy, Notice, Proxy, Rule
from ciliumpy.model.verdicts import Direction, Verdict

if TYPE_CHECKING:
    from ciliumpy.model.selectors import Selector

NAMESPACED, CLUSTERWIDE = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
KINDS = (NAMESPACED, CLUSTERWIDE)
_SUBJECTS = ("endpointSelector", "nodeSelector")
LONGEST_LOG = 32
AUTHENTICATION = "authentication"
_MODES = ("disabled", "required", "test-always-fail")
_LISTS = (
    ("ingress", Direction.INGRESS, Verdict.ALLOW),
    ("ingressDeny", Direction.INGRESS, Verdict.DENY),
    ("egress", Direction.EGRESS, Verdict.ALLOW),
    ("egressDeny", Direction.EGRESS, Verdict.DENY),
)
_DEFAULTS = PolicyOptions()


def decode_policy(document: dict[str, Any], options: PolicyOptions = _DEFAULTS) -> DecodedPolicy:
    """The rules of a policy object, in the order of the document.

    Raises FieldError for what is not valid in Cilium's language, or not with the agent's options.
    """
    top = Fields(document, ())
    metadata = top.fields("metadata") or Fields({}, ("metadata",))
    namespace = None if top.text("kind") == CLUSTERWIDE else metadata.text("namespace") or "default"
    specs: list[tuple[Any, Path]] = [(top.get("spec"), top.at("spec"))] if top.has("spec") else []
    specs += top.items("specs") or []
    if not specs:
        raise FieldError(("spec",), "is missing: a policy needs spec or specs")
    notices: list[Notice] = []
    rules = [rule for value, path in specs for rule in _spec(Fields(value, path), Scope(options, notices, namespace))]
    return DecodedPolicy(tuple(rules), tuple(notices))


def _spec(spec: Fields, scope: Scope) -> list[Rule]:
    spec.text("description")
    _labels(spec)
    log = _log(spec)
    subject = _subject(spec, scope)
    defaults = spec.fields("enableDefaultDeny") or Fields({}, spec.at("enableDefaultDeny"))
    closes = {Direction.INGRESS: defaults.boolean("ingress"), Direction.EGRESS: defaults.boolean("egress")}
    defaults.finish()
    rules: list[Rule] = []
    for name, direction, verdict in _LISTS:
        for value, path in spec.items(name) or ():
            scope.enter(direction, deny=verdict is Verdict.DENY)
            rule = Rule(
                "", subject, direction, verdict, (), None, closes[direction] is not False, node=scope.node, log=log
            )
            rules += _rules(Fields(value, path), scope, rule)
    spec.finish(cnp_hints.SPEC)
    if not rules:
        raise FieldError(spec.path, "needs at least one rule in ingress, ingressDeny, egress or egressDeny")
    if scope.node and not scope.options.host_firewall:
        scope.notice(spec.at("nodeSelector"), "has no effect while the host firewall is off: set policy.hostFirewall")
        return []
    return rules


def _subject(spec: Fields, scope: Scope) -> Selector:
    if spec.has("endpointSelector") and spec.has("nodeSelector"):
        raise FieldError(spec.at("nodeSelector"), "cannot stand beside endpointSelector: write two entries of specs")
    if spec.has("nodeSelector"):
        if scope.namespace is not None:
            raise FieldError(spec.at("nodeSelector"), f"is for a {CLUSTERWIDE} only")
        scope.node = True
        return node_subject(scope.selector(spec.get("nodeSelector"), spec.at("nodeSelector")))
    if not spec.has("endpointSelector"):
        for name in spec.names():
            known = "" if name in _SUBJECTS else cnp_hints.SPEC.get(name) or meant(name, _SUBJECTS)
            if known:
                raise FieldError(spec.at(name), known if name in cnp_hints.SPEC else f"unknown field{known}")
        raise FieldError(spec.at("endpointSelector"), "is missing: write {} to select every pod")
    requirements = scope.selector(spec.get("endpointSelector"), spec.at("endpointSelector"))
    scope.init = any((r.source, r.key) == ("reserved", "init") for r in requirements)
    return subject_selector(requirements, scope.namespace)


def _labels(spec: Fields) -> None:
    """Labels of the rule itself, by which people find it again: checked, and of no effect on packets."""
    for value, at in spec.items("labels") or ():
        fields = Fields(value, at)
        if not fields.text("key"):
            raise FieldError(fields.at("key"), "is missing: write {key: ..., value: ..., source: ...}")
        fields.text("value")
        fields.text("source")
        fields.finish()


def _log(spec: Fields) -> str:
    """The text that flows carry which a rule of this spec decides."""
    fields = spec.fields("log")
    if fields is None:
        return ""
    text = fields.text("value") or ""
    if len(text) > LONGEST_LOG:
        raise FieldError(fields.at("value"), f"has {len(text)} characters, at most {LONGEST_LOG} are allowed")
    if not text.isprintable():
        raise FieldError(fields.at("value"), "has characters that cannot be printed")
    fields.finish()
    return text


def _rules(fields: Fields, scope: Scope, rule: Rule) -> list[Rule]:
    """The rules of one entry of ingress, egress, ...: one for what needs no proxy, one for each part that does."""
    peers, parts = decode_peers(fields, scope), decode_ports(fields, scope)
    if not scope.deny and _authenticates(fields, scope):
        parts = [Part(part.path, part.ports, _nobody(part.proxy)) for part in parts]
    fields.finish(cnp_hints.rule(scope.prefix, deny=scope.deny))
    if peers is None and not (fields.get("toPorts") or fields.get("icmps")):
        peers = ()  # names neither peers nor ports: nobody
    return [
        Rule(
            path=path_text(part.path),
            subject=rule.subject,
            direction=rule.direction,
            verdict=Verdict.REDIRECT if part.proxy else rule.verdict,
            peers=peers,
            ports=part.ports,
            default_deny=rule.default_deny or scope.closed,
            proxy=part.proxy,
            node=rule.node,
            log=rule.log,
        )
        for part in parts
    ]


def _authenticates(rule: Fields, scope: Scope) -> bool:
    """Whether peers must prove who they are."""
    fields = rule.fields(AUTHENTICATION)
    if fields is None:
        return False
    mode = fields.text("mode") or ""
    if not mode:
        raise fields.missing("mode", f"is missing: use one of {', '.join(_MODES)}")
    if mode not in _MODES:
        raise FieldError(fields.at("mode"), f"must be one of {', '.join(_MODES)}{meant(mode, _MODES)}")
    fields.finish()
    if mode == "disabled":
        return False
    scope.notice(fields.path, "nobody can prove who they are in this version: what the rule is about is dropped")
    return True


def _nobody(proxy: Proxy | None) -> Proxy:
    """Before a proxy of the same kind, and before what is allowed without: who must prove themselves does not pass."""
    return Proxy(proxy.priority if proxy else 0, AUTHENTICATION, "mutual authentication")
