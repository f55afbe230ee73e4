# SPDX-License-Identifier: Apache-2.0
"""ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) into rules.

Its tiers stand before and behind all other policies. In a tier the lower priority decides first, and in one policy the
rule that stands first. Nothing here closes a direction: what no rule is about stays as it is without the policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ciliumpy.model.cidr_selectors import outside, parse_prefix
from ciliumpy.model.errors import FieldError, Path, path_text
from ciliumpy.model.fields import Fields, type_name
from ciliumpy.model.knp import PROTOCOLS, port_name, port_number
from ciliumpy.model.kube_selectors import namespace_labels, pod_labels
from ciliumpy.model.label_selectors import node_peers
from ciliumpy.model.labels import CLUSTER
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import WITH_PORTS, PortRange, Protocol, whole
from ciliumpy.model.rule import DecodedPolicy, NamedPort, Notice, Rule
from ciliumpy.model.selectors import Selector, all_of, equals, exists
from ciliumpy.model.verdicts import Direction, Tier, Verdict

if TYPE_CHECKING:
    from ciliumpy.model.selectors import Requirement

CLUSTER_NETWORK_POLICY = "ClusterNetworkPolicy"
MOST_PRIORITY = 1000
MOST = 25  # entries of a list: so many does the API server take
_DEFAULTS = PolicyOptions()
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_ACTIONS = {"Accept": Verdict.ALLOW, "Deny": Verdict.DENY, "Pass": Verdict.PASS}


def decode_cluster_network_policy(document: dict[str, Any], options: PolicyOptions = _DEFAULTS) -> DecodedPolicy:
    """The rules of a policy object, in the order of the document; none where the agent does not take this kind.

    Raises FieldError.
    """
    top = Fields(document, ())
    spec = top.fields("spec")
    if spec is None:
        raise FieldError(top.at("spec"), "is missing")
    tier = _TIERS[_one_of(spec, "tier", _TIERS)]
    scope = _Scope(_subject(spec), tier, _priority(spec), options)
    rules = [
        scope.rule(Fields(value, path), direction, position)
        for direction in Direction
        for position, (value, path) in enumerate(_entries(spec, direction.name.lower()))
    ]
    spec.finish()
    if not options.cluster_network_policy:
        said = "has no effect: this kind of policy is off; set policy.clusterNetworkPolicy"
        return DecodedPolicy((), (Notice(spec.path, said),))
    return DecodedPolicy(tuple(rules), tuple(scope.notices))


def _priority(spec: Fields) -> int:
    value = spec.get("priority")
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(
            spec.at("priority"), "is missing" if value is None else f"must be a number, not {type_name(value)}"
        )
    if not 0 <= value <= MOST_PRIORITY:
        raise FieldError(spec.at("priority"), f"{value} is not a priority: it is from 0 to {MOST_PRIORITY}")
    return value


def _subject(spec: Fields) -> Selector:
    fields = spec.fields("subject")
    if fields is None:
        raise FieldError(spec.at("subject"), "is missing: write namespaces: {} to select every pod")
    name = _only(fields, ("namespaces", "pods"))
    found = _pods(fields) if name == "pods" else namespace_labels(fields.get(name), fields.at(name))
    fields.finish()
    return all_of(*found)


def _pods(fields: Fields) -> list[Requirement]:
    """Pods by both their namespace's labels and their own."""
    pods = Fields(fields.get("pods"), fields.at("pods"))
    for name in ("namespaceSelector", "podSelector"):
        if not pods.has(name):
            raise FieldError(pods.at(name), "is missing: write {} to select all")
    found = namespace_labels(pods.get("namespaceSelector"), pods.at("namespaceSelector"))
    found += pod_labels(pods.get("podSelector"), pods.at("podSelector"))
    pods.finish()
    return found


class _Scope:
    """What all rules of a policy share; collects the notices."""

    def __init__(self, subject: Selector, tier: Tier, priority: int, options: PolicyOptions) -> None:
        self._subject = subject
        self._tier = tier
        self._priority = priority
        self._options = options
        self._cluster = equals("k8s", CLUSTER, options.cluster)
        self.notices: list[Notice] = []

    def rule(self, fields: Fields, direction: Direction, position: int) -> Rule:
        fields.text("name")
        verdict = _ACTIONS[_one_of(fields, "action", _ACTIONS)]
        side = "from" if direction is Direction.INGRESS else "to"
        peers: list[Selector] = []
        for value, path in _entries(fields, side, least=1):
            peers += self._peer(Fields(value, path), direction, verdict)
        ports: list[PortRange | NamedPort] = []
        for value, path in _entries(fields, "protocols"):
            ports += _ports(Fields(value, path))
        fields.finish()
        return Rule(
            path_text(fields.path),
            self._subject,
            direction,
            verdict,
            tuple(dict.fromkeys(peers)),
            tuple(dict.fromkeys(ports)) or None,
            default_deny=False,
            tier=self._tier,
            priority=self._priority + position / 1000,
        )

    def _peer(self, fields: Fields, direction: Direction, verdict: Verdict) -> list[Selector]:
        kinds: tuple[str, ...] = ("namespaces", "pods")
        if direction is Direction.EGRESS:
            kinds += ("nodes", "networks", "domainNames")
        name = _only(fields, kinds)
        path = fields.at(name)
        match name:
            case "pods":
                found = [all_of(*_pods(fields), self._cluster)]
            case "namespaces":
                found = [all_of(*namespace_labels(fields.get(name), path), self._cluster)]
            case "nodes":
                found = self._nodes(fields.get(name), path)
            case "networks":
                entries = _entries(fields, name, least=1)
                found = [outside(parse_prefix(value, at), (), self._options) for value, at in entries]
            case _:
                found = self._names(fields, verdict)
        fields.finish()
        return found

    def _nodes(self, value: Any, path: Path) -> list[Selector]:
        if not self._options.node_selector_labels:
            raise FieldError(path, "needs node labels in identities, which are off: set policy.nodeSelectorLabels")
        labels = [msgspec.structs.replace(requirement, source="node") for requirement in pod_labels(value, path)]
        return [node_peers(labels)]

    def _names(self, fields: Fields, verdict: Verdict) -> list[Selector]:
        path = fields.at("domainNames")
        if verdict is not Verdict.ALLOW:
            raise FieldError(path, "can only be accepted: a name that has not been asked for has no address to deny")
        found = []
        for value, at in _entries(fields, "domainNames", least=1):
            found.append(all_of(exists("fqdn", _domain(value, at))))
        self.notices.append(Notice(path, "selects nobody: there is no DNS proxy yet that would see the answers"))
        return found


def _ports(fields: Fields) -> list[PortRange | NamedPort]:
    """One entry of `protocols`. A name is looked up in every protocol."""
    name = _only(fields, (*(protocol.lower() for protocol in PROTOCOLS), "destinationNamedPort"))
    if name == "destinationNamedPort":
        text = port_name(fields.text(name) or "", fields.at(name))
        fields.finish()
        return [NamedPort(protocol, text) for protocol in WITH_PORTS]
    protocol = PROTOCOLS[name.upper()]
    inner = Fields(fields.get(name), fields.at(name))
    found = _numbers(inner.fields("destinationPort"), protocol)
    inner.finish()
    fields.finish()
    return [found]


def _numbers(fields: Fields | None, protocol: Protocol) -> PortRange:
    if fields is None:
        return whole(protocol)
    if _only(fields, ("number", "range")) == "number":
        first = last = port_number(fields, "number") or 0
    else:
        ends = Fields(fields.get("range"), fields.at("range"))
        first, last = (_end(ends, name) for name in ("start", "end"))
        ends.finish()
        if last < first:
            raise FieldError(ends.at("end"), f"{last} is before the start of the range, {first}")
    fields.finish()
    return PortRange(protocol, first, last)


def _end(ends: Fields, name: str) -> int:
    found = port_number(ends, name)
    if found is None:
        raise FieldError(ends.at(name), "is missing")
    return found


def _only(fields: Fields, names: tuple[str, ...]) -> str:
    """Which of the fields is there; it must be exactly one."""
    there = [name for name in names if fields.has(name)]
    if not there:
        fields.finish()  # rather say what is misspelt
        raise FieldError(fields.path, f"must have one of {', '.join(names)}")
    if len(there) > 1:
        raise FieldError(fields.at(there[1]), f"cannot stand beside {there[0]}")
    return there[0]


def _one_of(fields: Fields, name: str, known: dict[str, Any]) -> str:
    text = fields.text(name)
    if text is None:
        raise FieldError(fields.at(name), f"is missing: write {' or '.join(known)}")
    if text not in known:
        hint = f", did you mean {text.capitalize()}?" if text.capitalize() in known else ""
        raise FieldError(fields.at(name), f"must be one of {', '.join(known)}, not {text[:80]!r}{hint}")
    return text


def _entries(fields: Fields, name: str, least: int = 0) -> list[tuple[Any, Path]]:
    found = fields.items(name)
    if len(found or ()) < least:
        raise FieldError(fields.at(name), "is missing" if found is None else "must have at least one entry")
    if len(found or ()) > MOST:
        raise FieldError(fields.at(name), f"has {len(found or ())} entries, at most {MOST} are allowed")
    return found or []


def _domain(value: Any, path: Path) -> str:
    if not isinstance(value, str):
        raise FieldError(path, f"must be text, not {type_name(value)}")
    labels = value.removeprefix("*.").removesuffix(".").split(".")
    if len(value) > 253 or not all(part.replace("-", "a").isalnum() and part.isascii() for part in labels):
        raise FieldError(path, f"{value[:80]!r} is not a domain name: a name, or *. and a name")
    return value.lower().removesuffix(".")
