# SPDX-License-Identifier: Apache-2.0
"""Random worlds: pods, addresses, entities, and policy documents about them. Few words, so that they meet."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.unit.policy import brute
from tests.unit.policy.brute import End

SPACES: dict[str, dict[str, str]] = {"one": {"env": "dev"}, "two": {"env": "prod", "team": "x"}, "three": {}}
ADDRESSES = ("10.0.0.1", "10.1.2.3", "10.1.9.9", "192.0.2.5", "2001:db8::7", "2001:db9::1")
PREFIXES = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/32", "::/0")
HOLES = {"10.0.0.0/8": ["10.1.0.0/16", "10.1.2.3/32"], "10.1.0.0/16": ["10.1.2.0/24"], "0.0.0.0/0": ["10.0.0.0/8"]}
ENTITIES = ("host", "remote-node", "kube-apiserver", "health")
PORTS = (53, 80, 81, 443, 8080)
NAMES = ("http", "dns")
QUERIES = ((6, 53), (6, 80), (6, 81), (6, 443), (6, 8080), (17, 53), (17, 80), (132, 80), (1, 3), (1, 8), (58, 128))


class World(NamedTuple):
    pods: tuple[End, ...]
    others: tuple[End, ...]
    documents: list[dict[str, Any]]
    mode: str


labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from("abc"), "tier": st.sampled_from("xy")})
ports = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([6, 17]), st.sampled_from(PORTS)),
    max_size=2,
    unique_by=lambda port: port[:2],
).map(tuple)
pods = st.builds(
    lambda space, own, named, account: brute.pod(space, SPACES[space], own, named, account),
    st.sampled_from(sorted(SPACES)),
    labels,
    ports,
    st.sampled_from(["", "robot"]),
)


def expressions(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    values = st.lists(st.sampled_from("abxy"), min_size=1, max_size=2, unique=True)
    with_values = st.fixed_dictionaries(
        {"key": st.sampled_from(keys), "operator": st.sampled_from(["In", "NotIn"]), "values": values}
    )
    without = st.fixed_dictionaries(
        {"key": st.sampled_from(keys), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
    )
    matched = st.dictionaries(st.sampled_from(keys), st.sampled_from("abxy"), max_size=1)
    return st.fixed_dictionaries(
        {}, optional={"matchLabels": matched, "matchExpressions": st.lists(with_values | without, max_size=2)}
    )


own = expressions("app", "tier")
spaces = st.one_of(
    st.just({}),
    st.builds(lambda value: {"matchLabels": {"env": value}}, st.sampled_from(["dev", "prod"])),
    st.just({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}),
)
endpoint = st.one_of(
    expressions("app", "k8s:tier", "any:app"),
    st.builds(lambda s: {"matchLabels": {"k8s:" + brute.NAMESPACE: s}}, st.sampled_from(sorted(SPACES))),
    st.builds(lambda v: {"matchLabels": {brute.SPACE_LABELS + "env": v}}, st.sampled_from(["dev", "prod"])),
    st.just({"matchExpressions": [{"key": brute.NAMESPACE, "operator": "Exists"}]}),
    st.just({"matchLabels": {"reserved:host": ""}}),
)
blocks = st.sampled_from(PREFIXES).flatmap(
    lambda prefix: st.fixed_dictionaries(
        {"cidr": st.just(prefix)},
        optional={"except": st.lists(st.sampled_from(HOLES[prefix]), max_size=2)} if prefix in HOLES else {},
    )
)
entities = st.sampled_from(["all", "world", "cluster", "none", "world-ipv4", *ENTITIES])


def _number(protocols: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    port = st.sampled_from(["0", *map(str, PORTS)])
    ranged = st.builds(lambda first, more: {"port": str(first), "endPort": first + more}, st.sampled_from(PORTS), near)
    named = st.builds(lambda name: {"port": name}, st.sampled_from([*NAMES, "HTTP"]))
    plain = st.builds(lambda text: {"port": text}, port)
    return st.builds(lambda one, protocol: one | protocol, plain | ranged | named, _protocol(protocols))


def _protocol(names: list[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional={"protocol": st.sampled_from(names)})


near = st.sampled_from([0, 1, 30, 400])
number = _number(["TCP", "UDP", "SCTP", "ANY"])
http = st.builds(
    lambda at: {"ports": [{"port": str(at), "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}},
    st.sampled_from(PORTS),
)
plain_ports = st.fixed_dictionaries({}, optional={"ports": st.lists(number, max_size=3)})
icmps = st.lists(
    st.fixed_dictionaries(
        {
            "fields": st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from([0, 3, 8, 128])}, optional={"family": st.sampled_from(["IPv4", "IPv6"])}
                ),
                max_size=2,
            )
        }
    ),
    max_size=1,
)


@st.composite
def cilium_rules(draw, side: str, *, deny: bool) -> dict[str, Any]:
    kinds = {"Endpoints": endpoint, "Entities": entities, "CIDR": st.sampled_from(PREFIXES), "CIDRSet": blocks}
    kind = draw(st.sampled_from(["", *kinds]))
    rule = {side + kind: draw(st.lists(kinds[kind], max_size=2))} if kind else {}
    about = draw(st.integers(0, 4))
    if about == 0:
        rule["icmps"] = draw(icmps)
    elif about == 1 and not deny:
        rule["toPorts"] = [draw(http)]
    elif about <= 3:
        rule["toPorts"] = draw(st.lists(plain_ports, max_size=2))
    return rule


@st.composite
def cilium(draw, name: str) -> dict[str, Any]:
    space = draw(st.none() | st.sampled_from(sorted(SPACES)))
    kind = "CiliumNetworkPolicy" if space else "CiliumClusterwideNetworkPolicy"
    spec: dict[str, Any] = {"endpointSelector": draw(expressions("app", "tier"))}
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for deny in (False, True):
            if draw(st.sampled_from([True, False, False] if deny else [True, False])):
                key = direction + ("Deny" if deny else "")
                spec[key] = draw(st.lists(cilium_rules(side, deny=deny), min_size=1, max_size=2))
    if len(spec) == 1:
        spec["ingress"] = [{}]
    if draw(st.integers(0, 3)) == 0:
        spec["enableDefaultDeny"] = draw(st.sampled_from([{"ingress": False}, {"egress": False}, {"ingress": True}]))
    metadata = {"name": name} | ({"namespace": space} if space else {})
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


kube_peer = st.one_of(
    st.builds(lambda one: {"podSelector": one}, own),
    st.builds(lambda one: {"namespaceSelector": one}, spaces),
    st.builds(lambda a, b: {"podSelector": a, "namespaceSelector": b}, own, spaces),
    st.builds(lambda one: {"ipBlock": one}, blocks),
)


@st.composite
def kubernetes(draw, name: str) -> dict[str, Any]:
    def rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
        ported = st.lists(_number(["TCP", "UDP", "SCTP"]), max_size=2)
        one = st.fixed_dictionaries({}, optional={side: st.lists(kube_peer, max_size=2), "ports": ported})
        return st.lists(one, max_size=2)

    types = st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]])
    optional = {"ingress": rules("from"), "egress": rules("to"), "policyTypes": types}
    spec = draw(st.fixed_dictionaries({"podSelector": own}, optional=optional))
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction, ()):
            for port in rule.get("ports", ()):
                if port["port"].isdecimal():
                    port["port"] = int(port["port"])
                if port["port"] == 0:
                    del port["port"]
    metadata = {"name": name, "namespace": draw(st.sampled_from(sorted(SPACES)))}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


both = st.builds(lambda a, b: {"pods": {"podSelector": a, "namespaceSelector": b}}, own, spaces)
subjects = both | st.builds(lambda one: {"namespaces": one}, spaces)
networks = st.builds(lambda found: {"networks": found}, st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2))
destination = st.one_of(
    st.builds(lambda at: {"destinationPort": {"number": at}}, st.sampled_from(PORTS)),
    st.builds(
        lambda at, more: {"destinationPort": {"range": {"start": at, "end": at + more}}}, st.sampled_from(PORTS), near
    ),
    st.just({}),
)
tier_port = st.one_of(
    st.builds(lambda name, one: {name: one}, st.sampled_from(["tcp", "udp", "sctp"]), destination),
    st.builds(lambda name: {"destinationNamedPort": name}, st.sampled_from(NAMES)),
)


@st.composite
def tiers(draw, name: str) -> dict[str, Any]:
    spec = {
        "tier": draw(st.sampled_from(["Admin", "Baseline"])),
        "priority": draw(st.sampled_from([0, 10, 10, 900])),
        "subject": draw(subjects),
    }
    for direction, side, peers in (("ingress", "from", subjects), ("egress", "to", subjects | networks)):
        for position in range(draw(st.integers(0, 2))):
            rule = {
                "name": f"r{position}",
                "action": draw(st.sampled_from(["Accept", "Deny", "Pass", "Pass"])),
                side: draw(st.lists(peers, min_size=1, max_size=2)),
            }
            if draw(st.booleans()):
                rule["protocols"] = draw(st.lists(tier_port, min_size=1, max_size=2))
            spec.setdefault(direction, []).append(rule)
    api = "policy.networking.k8s.io/v1alpha2"
    return {"apiVersion": api, "kind": "ClusterNetworkPolicy", "metadata": {"name": name}, "spec": spec}


@st.composite
def worlds(draw, least: int = 1, most: int = 5) -> World:
    kinds = draw(st.lists(st.sampled_from([cilium, cilium, cilium, kubernetes, tiers]), min_size=least, max_size=most))
    documents = [draw(make(f"p{at}")) for at, make in enumerate(kinds)]
    found = draw(st.lists(pods, min_size=2, max_size=4, unique_by=lambda one: one.labels))
    others = [brute.outside(address) for address in ADDRESSES] + [brute.entity(name) for name in ENTITIES]
    return World(
        tuple(found), tuple(others), documents, draw(st.sampled_from(["default", "default", "always", "never"]))
    )
