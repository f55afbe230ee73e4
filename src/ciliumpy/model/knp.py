# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy (networking.k8s.io/v1) into rules.

What the API server does not take is refused with its path. A rule of `ingress` or `egress` has effect whether or not
`policyTypes` lists its direction; a direction that is listed and has no rule is closed. Prefixes mean what is outside:
the pods of the cluster are selected by labels (`options.cidr_match_mode` changes that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model.cidr_selectors import check_within, outside, parse_prefix
from ciliumpy.model.errors import FieldError, Path, path_text
from ciliumpy.model.fields import Fields, type_name
from ciliumpy.model.kube_selectors import namespace_labels, pod_labels
from ciliumpy.model.labels import CLUSTER, NAMESPACE
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import MAX_PORT, PortRange, Protocol, is_port_name, whole
from ciliumpy.model.rule import DecodedPolicy, NamedPort, Rule
from ciliumpy.model.selectors import Selector, all_of, equals
from ciliumpy.model.verdicts import Direction, Verdict

if TYPE_CHECKING:
    from ciliumpy.model.selectors import Requirement

NETWORK_POLICY = "NetworkPolicy"
PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
_DEFAULTS = PolicyOptions()
_PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_TYPES = {Direction.INGRESS: "Ingress", Direction.EGRESS: "Egress"}


def decode_network_policy(document: dict[str, Any], options: PolicyOptions = _DEFAULTS) -> DecodedPolicy:
    """The rules of a policy object, in the order of the document. Raises FieldError."""
    top = Fields(document, ())
    metadata = top.fields("metadata") or Fields({}, ("metadata",))
    namespace = metadata.text("namespace") or "default"
    spec = top.fields("spec") or Fields({}, top.at("spec"))
    own = equals("k8s", NAMESPACE, namespace)
    selector = spec.get("podSelector")
    subject = all_of(own, *(pod_labels(selector, spec.at("podSelector")) if selector is not None else ()))
    types = _types(spec)
    scope = _Scope(subject, own, equals("k8s", CLUSTER, options.cluster), options)
    rules: list[Rule] = []
    for direction in Direction:
        found = [scope.rule(Fields(value, path), direction) for value, path in spec.items(direction.name.lower()) or ()]
        rules += found or [scope.closes(path, direction) for path in _closed(direction, types, spec.path)]
    spec.finish()
    return DecodedPolicy(tuple(rules))


def _types(spec: Fields) -> dict[str, Path]:
    types: dict[str, Path] = {}
    for value, path in spec.items("policyTypes") or ():
        if value not in ("Ingress", "Egress"):
            raise FieldError(path, f"must be Ingress or Egress, not {str(value)[:80]!r}")
        types.setdefault(value, path)
    return types


def _closed(direction: Direction, types: dict[str, Path], spec: Path) -> list[Path]:
    """Where it says that the direction is closed though it has no rule; nowhere if it is not."""
    if _TYPES[direction] in types:
        return [types[_TYPES[direction]]]
    return [spec] if direction is Direction.INGRESS and "Egress" not in types else []


class _Scope:
    """What all rules of a policy share."""

    def __init__(self, subject: Selector, namespace: Requirement, cluster: Requirement, options: PolicyOptions) -> None:
        self._subject = subject
        self._namespace = namespace
        self._cluster = cluster
        self._options = options

    def closes(self, path: Path, direction: Direction) -> Rule:
        return Rule(path_text(path), self._subject, direction, Verdict.ALLOW, (), None)

    def rule(self, fields: Fields, direction: Direction) -> Rule:
        """One entry of `ingress` or `egress`. A list of peers or ports that is absent or empty means all of them."""
        peers = [self._peer(Fields(value, path)) for value, path in fields.items(_PEERS[direction]) or ()]
        ports = [_port(Fields(value, path)) for value, path in fields.items("ports") or ()]
        fields.finish()
        return Rule(
            path_text(fields.path),
            self._subject,
            direction,
            Verdict.ALLOW,
            tuple(dict.fromkeys(peers)) or None,
            tuple(dict.fromkeys(ports)) or None,
        )

    def _peer(self, fields: Fields) -> Selector:
        pods, spaces, block = (fields.get(name) for name in ("podSelector", "namespaceSelector", "ipBlock"))
        fields.finish()
        if block is not None:
            if pods is not None or spaces is not None:
                other = "podSelector" if pods is not None else "namespaceSelector"
                raise FieldError(fields.at("ipBlock"), f"cannot stand beside {other}: write two peers")
            return self._block(Fields(block, fields.at("ipBlock")))
        if pods is None and spaces is None:
            raise FieldError(fields.path, "selects by nothing: write podSelector, namespaceSelector or ipBlock")
        within = [self._namespace]
        if spaces is not None:
            within = namespace_labels(spaces, fields.at("namespaceSelector"))
        chosen = pod_labels(pods, fields.at("podSelector")) if pods is not None else []
        return all_of(*within, *chosen, self._cluster)

    def _block(self, fields: Fields) -> Selector:
        if not fields.has("cidr"):
            raise FieldError(fields.at("cidr"), "is missing")
        network = parse_prefix(fields.get("cidr"), fields.at("cidr"))
        holes = []
        for value, path in fields.items("except") or ():
            hole = parse_prefix(value, path)
            check_within(hole, network, path)
            holes.append(hole)
        fields.finish()
        return outside(network, holes, self._options)


def _port(fields: Fields) -> PortRange | NamedPort:
    """One entry of `ports`. Without a port it is the whole protocol, and without a protocol TCP."""
    protocol = _protocol(fields)
    value, last = fields.get("port"), port_number(fields, "endPort")
    fields.finish()
    if value is None:
        if last is not None:
            raise FieldError(fields.at("endPort"), "needs a port before it: it is the last of a range")
        return whole(protocol)
    if isinstance(value, str):
        if last is not None:
            raise FieldError(fields.at("endPort"), "cannot stand beside the name of a port")
        return NamedPort(protocol, port_name(value, fields.at("port")))
    number = port_number(fields, "port") or 0
    return PortRange(protocol, number, max(number, last or 0))


def _protocol(fields: Fields) -> Protocol:
    text = fields.text("protocol")
    if text is None:
        return Protocol.TCP
    if text not in PROTOCOLS:
        hint = f", did you mean {text.upper()}?" if text.upper() in PROTOCOLS else ""
        raise FieldError(fields.at("protocol"), f"must be one of {', '.join(PROTOCOLS)}, not {text[:80]!r}{hint}")
    return PROTOCOLS[text]


def port_name(text: str, path: Path) -> str:
    """The name of a port, in lower case."""
    if text.isdecimal():
        raise FieldError(path, f"{text[:80]!r} in quotes is a name, and a name has a letter: write the number without")
    if not is_port_name(text):
        raise FieldError(path, f"{text[:80]!r} is not a port name: at most 15 letters, digits and single dashes")
    return text.lower()


def port_number(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(fields.at(name), f"must be a number, not {type_name(value)}")
    if not 1 <= value <= MAX_PORT:
        raise FieldError(fields.at(name), f"{value} is not a port: it is from 1 to {MAX_PORT}")
    return value
