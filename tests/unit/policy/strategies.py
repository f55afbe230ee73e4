# SPDX-License-Identifier: Apache-2.0
"""Small worlds: few labels and ports, so that everything meets everything sooner or later."""

from __future__ import annotations

from hypothesis import strategies as st

from ciliumpy.model.labels import Label, texts
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import PortRange
from ciliumpy.model.rule import NamedPort, Proxy, Rule, ServicePeer
from ciliumpy.model.selectors import EVERYBODY, NOBODY, Operator, Requirement, one_of
from ciliumpy.model.verdicts import Direction, Enforcement, Tier, Verdict
from ciliumpy.policy.resolve import Service

KEYS, VALUES, SOURCES = ["app", "tier", "host"], ["", "a", "b"], ["k8s", "reserved"]

PREFIXES = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "2001-db8--/32", "2001-db8--7/128"]
labels = st.one_of(
    st.builds(Label, st.sampled_from(SOURCES), st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.builds(Label, st.just("cidr"), st.sampled_from(PREFIXES)),
)
label_sets = st.lists(labels, max_size=4).map(texts)


@st.composite
def requirements(draw):
    operator = draw(st.sampled_from(Operator))
    values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True).map(lambda v: tuple(sorted(v)))
    wants = operator in (Operator.IN, Operator.NOT_IN)
    source = draw(st.sampled_from([*SOURCES, "any", "other"]))
    return Requirement(source, draw(st.sampled_from(KEYS)), operator, draw(values) if wants else ())


prefixes = st.builds(
    Requirement,
    st.just("cidr"),
    st.sampled_from(PREFIXES),
    st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]),
)
selectors = st.one_of(
    st.lists(st.lists(requirements() | prefixes, max_size=3), min_size=1, max_size=2).map(one_of),
    st.sampled_from([EVERYBODY, NOBODY]),
)


@st.composite
def port_ranges(draw):
    first = draw(st.sampled_from([0, 1, 79, 80, 81, 1000, 65535]))
    last = draw(st.sampled_from([first, first, max(first, 80), max(first, 1100), 65535]))
    return PortRange(draw(st.sampled_from([6, 17, 1])), first, last)


NAMES = ["http", "dns"]
named_ports = st.builds(NamedPort, st.sampled_from([6, 17]), st.sampled_from(NAMES))
port_numbers = st.lists(
    st.tuples(st.sampled_from([6, 17]), st.sampled_from(NAMES), st.sampled_from([80, 81, 1000])), max_size=3
).map(lambda found: tuple(sorted(set(found))))
spaces = st.sampled_from(["", "one"])
service_peers = st.builds(ServicePeer, spaces, st.sampled_from(["x", "y"])) | st.builds(
    ServicePeer, spaces, labels=st.deferred(lambda: selectors)
)
services = st.lists(
    st.builds(
        Service,
        st.sampled_from(["one", "two"]),
        st.sampled_from(["x", "y"]),
        st.sampled_from([(), (("app", "a"),)]),
        st.sampled_from([(), (("app", "a"),), (("app", "a"), ("tier", "b"))]),
        st.sampled_from([(), ("10.1.2.3/32", "2001-db8--7/128")]),
    ),
    max_size=2,
    unique_by=lambda service: (service.namespace, service.name),
)
options = st.builds(
    PolicyOptions,
    enforcement=st.sampled_from(Enforcement),
    host_firewall=st.booleans(),
    allow_localhost=st.sampled_from(["always", "policy"]),
)

PORTS = [0, 1, 2, 79, 80, 81, 82, 999, 1000, 1050, 1100, 1101, 65534, 65535]
PROTOCOLS = [6, 17, 1, 47]


@st.composite
def rules(draw, tiers=tuple(t for t in Tier if t is not Tier.DEFAULT)):
    verdict = draw(st.sampled_from(Verdict))
    return Rule(
        f"spec.rule[{draw(st.integers(0, 99))}]",
        draw(selectors),
        draw(st.sampled_from(Direction)),
        verdict,
        draw(st.none() | st.lists(selectors | service_peers, max_size=2).map(tuple)),
        draw(st.none() | st.lists(port_ranges() | named_ports, max_size=3).map(tuple)),
        default_deny=draw(st.booleans()),
        tier=draw(st.sampled_from(tiers)),
        priority=draw(st.sampled_from([0.0, 1.0])),
        node=draw(st.sampled_from([False, False, False, True])),
        proxy=Proxy(draw(st.sampled_from([0, 101, 116])), "http") if verdict is Verdict.REDIRECT else None,
    )
