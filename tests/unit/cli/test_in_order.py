# SPDX-License-Identifier: Apache-2.0
"""Flags of all verbs before the verb."""

from __future__ import annotations

import pytest

from ciliumpy.cli.app import in_order
from ciliumpy.kit.errors import CiliumpyError


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("endpoint list -o json", "endpoint list -o json"),
        ("--lab demo endpoint list", "endpoint list --lab demo"),
        (
            "--lab=demo -ojson endpoint --node n1 ls --namespace shop",
            "endpoint ls --lab=demo -ojson --node n1 --namespace shop",
        ),
        ("-o json status --wait", "status -o json --wait"),
        ("--node n1 bpf policy list 4", "bpf policy list --node n1 4"),
        ("--lab demo lab exec shop/api -- cat -o x", "lab exec --lab demo shop/api -- cat -o x"),
        ("endpoint --help", "endpoint --help"),
        ("--lab demo --help", "--help"),
        ("--lab demo nonsense", "nonsense"),
        ("--bogus endpoint list", "--bogus endpoint list"),
        ("", ""),
    ],
)
def test_flags_go_behind_the_verb(said: str, meant: str) -> None:
    assert in_order(said.split()) == meant.split()


def test_a_flag_without_its_value() -> None:
    with pytest.raises(CiliumpyError, match="--lab wants a value"):
        in_order(["--lab"])
