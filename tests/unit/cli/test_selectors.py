# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ciliumpy.cli.selectors import selector_lines


def test_requirements_and_alternatives_have_a_line_each() -> None:
    assert selector_lines(["any:app in (a,b),k8s:tier=x", "reserved:host | reserved:world"]) == [
        "any:app in (a,b)",
        "  & k8s:tier=x",
        "reserved:host",
        "  | reserved:world",
    ]
