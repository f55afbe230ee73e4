# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ciliumpy.api.admin_objects import rule as object_of
from ciliumpy.cli.policy.get import rule
from ciliumpy.model.rule import Direction, Proxy, Rule, Verdict
from ciliumpy.model.selectors import Selector


def shown(**more: object) -> list[str]:
    one = Rule("spec.ingress[0]", Selector(()), Direction.INGRESS, Verdict.ALLOW, None, None)
    return rule(object_of(Rule(**{f: getattr(one, f) for f in Rule.__struct_fields__} | more))).splitlines()


def test_what_a_proxy_is_asked_for_and_what_flows_carry_is_shown() -> None:
    redirect = shown(verdict=Verdict.REDIRECT, proxy=Proxy(101, "http", "http GET /public/.*"), log="seen")
    assert [line.split(maxsplit=1) for line in redirect if "proxy" in line or "log" in line] == [
        ["proxy:", "http GET /public/.*"],
        ["log:", "seen"],
    ]
    assert not [line for line in shown() if "proxy" in line or "log" in line]
