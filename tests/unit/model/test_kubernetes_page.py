# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/reference/kubernetes-policy.md are policies of which every part has effect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ciliumpy.model.cluster_np import decode_cluster_network_policy
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.model.options import PolicyOptions

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "kubernetes-policy.md"
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
DECODERS = {"NetworkPolicy": decode_network_policy, "ClusterNetworkPolicy": decode_cluster_network_policy}


def test_there_is_one_of_each_kind():
    assert [example["kind"] for example in EXAMPLES] == list(DECODERS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["kind"])
def test_an_example_has_effect(example: dict):
    decoded = DECODERS[example["kind"]](example, PolicyOptions(cluster_network_policy=True))
    entries = [*example["spec"].get("ingress", ()), *example["spec"].get("egress", ())]
    assert len(decoded.rules) == len(entries)
    assert decoded.notices == ()
    assert all(rule.peers for rule in decoded.rules)
