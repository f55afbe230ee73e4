# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from ciliumpy.cli.jsonpath import render
from ciliumpy.kit.errors import CiliumpyError

VALUE = {
    "kind": "EndpointList",
    "items": [
        {"id": 3, "node": "n1", "state": "ready", "labels": ["k8s:a", "k8s:b=1"], "policy": {"io.x/y": "on"}},
        {"id": 4, "node": "n2", "state": "not-ready", "labels": [], "policy": {"io.x/y": "off"}},
    ],
    "errors": [],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "EndpointList"),
        (".kind", "EndpointList"),
        ("{$.kind}", "EndpointList"),
        ("{.items[*].id}", "3 4"),
        ("{.items[0].node}", "n1"),
        ("{.items[-1].node}", "n2"),
        ("{.items[0:1].id}", "3"),
        ("{.items[-1:].id}", "4"),
        ("{.items[7].id}", ""),
        ("{.nothing.at.all}", ""),
        ("{..id}", "3 4"),
        ("{.items[*]['id','node']}", "3 4 n1 n2"),
        ("{.items[0].policy['io.x/y']}", "on"),
        ('{.items[?(@.state=="ready")].id}', "3"),
        ("{.items[?(@.id>=4)].node}", "n2"),
        ("{.items[?(@.id!=4)].node}", "n1"),
        ('{.items[?(@.id<"x")].node}', ""),
        ("{.items[?(@.labels[0])].id}", "3"),
        ("{.items[0].labels}", '["k8s:a", "k8s:b=1"]'),
        ('{range .items[*]}{.node}{"\\t"}{.id}{"\\n"}{end}', "n1\t3\nn2\t4\n"),
        ("{range .items[*]}{range .labels[*]}{@},{end}{.id} {end}", "k8s:a,k8s:b=1,3 4 "),
        ("{range .errors[*]}{.node}{end}none", "none"),
        ("id: {.items[0].id}!", "id: 3!"),
        ("{'}'}", "}"),
    ],
)
def test_what_a_template_picks(template: str, text: str) -> None:
    assert render(template, VALUE) == text


@pytest.mark.parametrize(
    "template",
    ["{.items[", "{.items[x]}", "{end}", "{range .items[*]}{.id}", "{.items[?(@.id=)]}", "{'x}", "{.a!}"],
)
def test_what_is_refused(template: str) -> None:
    with pytest.raises(CiliumpyError) as refused:
        render(template, VALUE)
    assert refused.value.exit_code == 2


def test_templates_cannot_run_code() -> None:
    for template in ("{__import__('os')}", "{.items[?(__import__('os'))]}", "{.items[?(@.id==open('x'))]}"):
        with pytest.raises(CiliumpyError):
            render(template, VALUE)
