# SPDX-License-Identifier: Apache-2.0
"""Datapath objects with one fault each, for tests: what ships is copied, changed in one place, and compiled.

The text that is changed must be there exactly once: a fault that no longer applies fails loudly.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from ciliumpy.bpf import build


class Change(NamedTuple):
    header: str
    text: str
    instead: str


class Fault(NamedTuple):
    """`tests` is what to run, red and green neighbours; `red` matches each action that fails, `says` its fault."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    red: str
    says: str

    def __str__(self) -> str:
        return self.name


EGRESS_AND_INGRESS = ("^echo-ingress$/by-(label|port)$", "^client-egress$/by-(label|port)$")
TIERS_AND_PROXIES = ("^tier-admin-pass$", "^echo-ingress-l7$/http$")
FAULTS = (
    Fault(
        "policy-lookup-always-allows",
        (
            Change(
                "policy.h",
                "\tif (r.ref.verdict == RULE_DEFAULT_DENIED)\n\t\tr.ref.bit = set->denied_stat[direction];\n",
                "\tr.ref.verdict = RULE_ALLOWED;\n",
            ),
            Change(
                "policy.h",
                "\tif (!class_id)\n\t\treturn rule(0, set->denied_stat[direction], 0, RULE_DEFAULT_DENIED);\n",
                "\tif (!class_id)\n\t\treturn rule(0, 0, 0, RULE_ALLOWED);\n",
            ),
        ),
        EGRESS_AND_INGRESS,
        r"(echo-ingress|client-egress)/by-(label|port)/(tcp|udp|ping)-ipv[46]-\d+",
        "succeeded, and should be denied at (in|e)gress",
    ),
    Fault(
        "own-host-over-deny-rules",
        (
            Change(
                "policy.h",
                "if (ep->flags & ENDPOINT_ENFORCE_INGRESS && !itself)",
                "if (ep->flags & ENDPOINT_ENFORCE_INGRESS && !itself && e->src_identity != IDENTITY_HOST)",
            ),
        ),
        ("^host-entity-ingress-deny$", "^echo-ingress-port-range$"),
        r"host-entity-ingress-deny/not-from-own-host/(tcp|udp|ping)-ipv[46]-\d+",
        "succeeded, and should be denied at ingress",
    ),
    Fault(
        "end-of-port-range-ignored",
        (Change("policy.h", "\t\tif (port <= range->last)\n", "\t\tif (port)\n"),),
        ("^host-entity-ingress-deny$", "^echo-ingress-port-range$"),
        r"echo-ingress-port-range/port-range/udp-ipv[46]-\d+",
        "succeeded, and should be denied at ingress",
    ),
    Fault(
        "pass-skips-nothing",
        (Change("policy.h", "\t\tif (l < *next)\n\t\t\tcontinue;\n", ""),),
        TIERS_AND_PROXIES,
        r"tier-admin-pass/passed-and-decided-by-nobody/tcp-ipv[46]-[01]",
        r"POLICY_DENY",
    ),
    Fault(
        "rules-for-a-proxy-allow",
        (Change("policy.h", "\t\treturn DROP_NO_PROXY;\n", "\t\treturn 0;\n"),),
        TIERS_AND_PROXIES,
        r"echo-ingress-l7/http/tcp-ipv[46]-[01]",
        "succeeded, and should be denied at ingress",
    ),
    Fault(
        "audited-as-if-allowed",
        (Change("policy.h", "\tref->verdict |= RULE_AUDITED;\n", "\tref->verdict = RULE_ALLOWED;\n"),),
        ("^policy-audit-mode-egress$", "^echo-ingress-l7$/http$"),
        r"policy-audit-mode-egress/egress/(tcp|udp|ping)-ipv[46]-\d+",
        "no audited flow at egress on node n1",
    ),
    Fault(
        "ingress-skipped",
        (Change("policy.h", "\tif (e->dst_slot) {\n", "\tif (e->dst_slot && false) {\n"),),
        EGRESS_AND_INGRESS,
        r"echo-ingress/by-(label|port)/(tcp|udp|ping)-ipv[46]-\d+",
        "succeeded, and should be denied at ingress",
    ),
    Fault(
        "identity-from-the-wire-ignored",
        (Change("resolve.h", "\tp->src_identity = p->vni;\n", "\tp->src_identity = world_identity(family);\n"),),
        ("^echo-ingress$/by-label", "^client-egress$/by-label"),
        r"(echo-ingress|client-egress)/by-label-across/tcp-ipv[46]-\d+",
        "dropped at (in|e)gress on node n[12]: POLICY_DENIED",
    ),
    Fault(
        "ipv6-skipped",
        (Change("slow.h", "\t\treason = judge_packet(p);\n", "\t\treason = family == IPV6 ? 0 : judge_packet(p);\n"),),
        EGRESS_AND_INGRESS,
        r"(echo-ingress|client-egress)/by-(label|port)/(tcp|udp|ping)-ipv6-\d+",
        "succeeded, and should be denied at (in|e)gress",
    ),
    Fault(
        "reply-never-matched",
        (
            Change("replay.h", "way = p->direction != row->origin;", "way = 0;"),
            Change("slow.h", "way = p->direction != s->old.origin;", "way = 0;"),
        ),
        ("^all-ingress-deny$/replies", "^all-ingress-deny$/from-own-host", "^echo-ingress$/by-label$"),
        r"all-ingress-deny/replies(-across|-from-outside)?/(tcp|udp|ping)-ipv[46]-\d+",
        r"failed \(timeout\)",
    ),
    Fault(
        "epoch-never-compared",
        (
            Change(
                "replay.h",
                "half->epoch != epoch_sum(p, half->source_slot, half->target_slot, family)",
                "false",
            ),
        ),
        ("^live-connections$/(cut-by-ingress|untouched)$", "^policy-comes-and-goes$/ingress$"),
        r"live-connections/cut-by-ingress/use-(tcp|udp)-ipv[46]-\d+",
        "succeeded, and should be denied at ingress",
    ),
    Fault(
        "source-check-skipped",
        (
            Change(
                "resolve.h",
                "if (!addr_equal(&p->saddr, family == IPV4 ? &ep->ip4 : &ep->ip6) || addr_is_zero(&p->saddr))",
                "if (addr_is_zero(&p->saddr))",
            ),
        ),
        ("^source-forging$/with-a-pods-address$", "^echo-ingress$/by-label$"),
        r"source-forging/with-a-pods-address/forge-ipv[46]-\d+",
        "a datagram with the address of .*, sent by .*/other, has arrived",
    ),
    Fault(
        "drop-not-reported",
        (Change("events.h", "\tevent_send(p, EVENT_DROP, reason);\n", ""),),
        ("^echo-ingress$/by-port", "^no-policies$/pod-to-pod$"),
        r"echo-ingress/by-port/(tcp|udp|ping)-ipv[46]-\d+",
        r"no drop was reported by node n\d \(POLICY_DENIED at ingress was expected\)",
    ),
)


def compile_fault(changes: tuple[Change, ...], folder: Path) -> Path:
    """Return the folder of the objects that are made of the changed sources."""
    sources, objects = folder / "c", folder / "objects"
    shutil.copytree(build.SOURCES, sources)
    for change in changes:
        path = sources / change.header
        text = path.read_text()
        found = text.count(change.text)
        assert found == 1, f"{change.header} has {found} times what is to be changed:\n{change.text}"
        path.write_text(text.replace(change.text, change.instead))
    (sources / "datapath_wide.bpf.c").unlink()  # no test with a fault gets so far
    build.build(sources, objects, force=True)
    return objects
