# SPDX-License-Identifier: Apache-2.0
"""Small worlds: few labels and ports, so that everything meets everything sooner or later."""

from __future__ import annotations

from hypothesis import strategies as st

from ciliumpy.model.labels import Label, texts
from ciliumpy.model.ports import PortRange
from ciliumpy.model.rule import Proxy, Rule
from ciliumpy.model.selectors import EVERYBODY, NOBODY, Operator, Requirement, one_of
from ciliumpy.model.verdicts import Direction, Tier, Verdict

KEYS, VALUES, SOURCES = ["app", "tier", "host"], ["", "a", "b"], ["k8s", "reserved"]

label_sets = st.lists(
    st.builds(Label, st.sampled_from(SOURCES), st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=4
).map(texts)


@st.composite
def requirements(draw):
    operator = draw(st.sampled_from(Operator))
    values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True).map(lambda v: tuple(sorted(v)))
    wants = operator in (Operator.IN, Operator.NOT_IN)
    source = draw(st.sampled_from([*SOURCES, "any", "other"]))
    return Requirement(source, draw(st.sampled_from(KEYS)), operator, draw(values) if wants else ())


selectors = st.one_of(
    st.lists(st.lists(requirements(), max_size=3), min_size=1, max_size=2).map(one_of),
    st.sampled_from([EVERYBODY, NOBODY]),
)


@st.composite
def port_ranges(draw):
    first = draw(st.sampled_from([0, 1, 79, 80, 81, 1000, 65535]))
    last = draw(st.sampled_from([first, first, max(first, 80), max(first, 1100), 65535]))
    return PortRange(draw(st.sampled_from([6, 17, 1])), first, last)


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
        draw(st.none() | st.lists(selectors, max_size=2).map(tuple)),
        draw(st.none() | st.lists(port_ranges(), max_size=3).map(tuple)),
        default_deny=draw(st.booleans()),
        tier=draw(st.sampled_from(tiers)),
        priority=draw(st.sampled_from([0.0, 1.0])),
        proxy=Proxy(draw(st.sampled_from([0, 101, 116])), "http") if verdict is Verdict.REDIRECT else None,
    )
