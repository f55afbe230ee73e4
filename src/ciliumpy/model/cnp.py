# SPDX-License-Identifier: Apache-2.0
"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2) into rules.

What is wrong is refused with its path, as Cilium would; unknown fields are refused too. What is right but not yet
supported grants nothing and closes its direction; where it denies, it denies more than it says. Both leave a notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model.cnp_peers import decode_peers
from ciliumpy.model.cnp_ports import decode_ports
from ciliumpy.model.cnp_scope import Scope
from ciliumpy.model.errors import FieldError, Path, path_text
from ciliumpy.model.fields import Fields
from ciliumpy.model.label_selectors import decode_selector, subject_selector
from ciliumpy.model.rule import DecodedPolicy, Notice, Rule
from ciliumpy.model.verdicts import Direction, Verdict

if TYPE_CHECKING:
    from ciliumpy.model.selectors import Selector

NAMESPACED, CLUSTERWIDE = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
KINDS = (NAMESPACED, CLUSTERWIDE)
_LISTS = (
    ("ingress", Direction.INGRESS, Verdict.ALLOW),
    ("ingressDeny", Direction.INGRESS, Verdict.DENY),
    ("egress", Direction.EGRESS, Verdict.ALLOW),
    ("egressDeny", Direction.EGRESS, Verdict.DENY),
)


def decode_policy(document: dict[str, Any], *, cluster: str = "default") -> DecodedPolicy:
    """The rules of a policy object, in the order of the document.

    `cluster` is the name of the own cluster. Raises FieldError for what is not valid in Cilium's language.
    """
    top = Fields(document, ())
    metadata = top.fields("metadata") or Fields({}, ("metadata",))
    namespace = None if top.text("kind") == CLUSTERWIDE else metadata.text("namespace") or "default"
    specs: list[tuple[Any, Path]] = [(top.get("spec"), top.at("spec"))] if top.has("spec") else []
    specs += top.items("specs") or []
    if not specs:
        raise FieldError(("spec",), "is missing: a policy needs spec or specs")
    notices: list[Notice] = []
    rules = [
        rule
        for value, path in specs
        for rule in _spec(Fields(value, path), Scope(notices, namespace=namespace, cluster=cluster))
    ]
    return DecodedPolicy(tuple(rules), tuple(notices))


def _spec(spec: Fields, scope: Scope) -> list[Rule]:
    spec.text("description")
    spec.ignore("labels", "log")
    subject = _subject(spec, scope)
    defaults = spec.fields("enableDefaultDeny") or Fields({}, spec.at("enableDefaultDeny"))
    closes = {Direction.INGRESS: defaults.boolean("ingress"), Direction.EGRESS: defaults.boolean("egress")}
    defaults.finish()
    rules = []
    filled = False
    for name, direction, verdict in _LISTS:
        for value, path in spec.items(name) or ():
            filled = True
            scope.enter(direction, deny=verdict is Verdict.DENY)
            rule = _rule(Fields(value, path), scope, subject, verdict, closes[direction] is not False)
            if not scope.node:
                rules.append(rule)
    spec.finish()
    if not filled:
        raise FieldError(spec.path, "needs at least one rule in ingress, ingressDeny, egress or egressDeny")
    if scope.node:
        scope.notices.append(Notice(spec.at("nodeSelector"), "has no effect: this version has no host firewall"))
    return rules


def _subject(spec: Fields, scope: Scope) -> Selector:
    if spec.has("endpointSelector") and spec.has("nodeSelector"):
        raise FieldError(spec.at("nodeSelector"), "cannot stand beside endpointSelector")
    if spec.has("nodeSelector"):
        if scope.namespace is not None:
            raise FieldError(spec.at("nodeSelector"), f"is for a {CLUSTERWIDE} only")
        scope.node = True
        requirements = decode_selector(spec.get("nodeSelector"), spec.at("nodeSelector"))
    elif spec.has("endpointSelector"):
        requirements = decode_selector(spec.get("endpointSelector"), spec.at("endpointSelector"))
    else:
        raise FieldError(spec.at("endpointSelector"), "is missing: write {} to select every pod")
    return subject_selector(requirements, scope.namespace)


def _rule(rule: Fields, scope: Scope, subject: Selector, verdict: Verdict, closes: bool) -> Rule:
    peers, ports = decode_peers(rule, scope), decode_ports(rule, scope)
    if verdict is Verdict.ALLOW and (mode := _authentication(rule)) is not None:
        scope.notice(mode, "mutual authentication is not supported by this version: grants nothing")
        peers = ()
    rule.finish()
    if peers is None and not (rule.get("toPorts") or rule.get("icmps")):
        peers = ()  # names neither peers nor ports: nobody
    return Rule(path_text(rule.path), subject, scope.direction, verdict, peers, ports, closes or scope.closed)


def _authentication(rule: Fields) -> Path | None:
    """The path of an authentication that a peer must pass."""
    fields = rule.fields("authentication")
    if fields is None:
        return None
    mode = fields.text("mode")
    if mode not in ("disabled", "required", "test-always-fail"):
        raise FieldError(fields.at("mode"), "must be disabled, required or test-always-fail")
    fields.finish()
    return None if mode == "disabled" else fields.path
