# SPDX-License-Identifier: Apache-2.0
"""Rows of maps in one line."""

from __future__ import annotations

import pytest

from ciliumpy.cli.bpf.row_text import key_text, value_text

TO_POD = {"ifindex": 3, "dmac": "00:00:00:00:00:00"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        ("0a0b", "0a0b"),
        ({"a": 0, "b": {"c": 0}}, "0"),
        ({"a": 0, "b": {"c": 1, "d": 0}}, "b={c=1}"),
        ({"mac": "00:00", "ip": "::", "other": "0.0.0.0", "x": "::1"}, "x=::1"),
        ({"seen": [2, 0]}, "seen=[2 0]"),
        ({"mask": [512, 0, 0, 0]}, "mask=[512 …]"),
        ({"level": [{"v": 1, "w": 0}, {"v": 0}, {"v": 2}, *[{"v": 0}] * 13]}, "level=[{v=1} {} {v=2} …]"),
        (
            {"source": 2, "target": 1, "from_pod": {"i": 9}, "from_tunnel": {"vni": 9}},
            "source=2 target=1 from_tunnel={vni=9}",
        ),
        ({"source": 4, "target": 1, "from_pod": {"i": 9}, "to_pod": TO_POD}, "source=4 target=1 to_pod={ifindex=3}"),
        ({"from_pod": {"i": 9}}, "from_pod={i=9}"),
        ({"half": [1, 1], "only": 1, "rewrite": 1, "service_id": 0}, "half=[1 1]"),
        ({"half": [1, 1], "only": 1, "rewrite": 1, "service_id": 5}, "only=1 rewrite=1 service_id=5"),
    ],
)
def test_a_value_without_its_zeros(value: object, text: str) -> None:
    assert value_text(value) == text


def test_a_key_is_whole() -> None:
    assert key_text({"a": 0, "b": [0, 1], "c": {"d": ""}}) == 'a=0 b=[0 1] c={d=""}'
    assert key_text(0) == "0"
