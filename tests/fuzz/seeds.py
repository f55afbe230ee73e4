# SPDX-License-Identifier: Apache-2.0
"""Good policies to begin with: the reference manual's, and those of the recorded clusters."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_TESTS = Path(__file__).parents[1]
_MANUAL = _TESTS.parent / "docs" / "reference" / "policy-language.md"
_RECORDED = _TESTS / "data" / "policy-truth.jsonl.gz"
KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy")
_CASES = 100


def manual() -> list[dict[str, Any]]:
    """The examples of the reference manual; what is a part of a spec is made a policy."""
    found = []
    for block in re.findall(r"^```yaml\n(.*?)^```", _MANUAL.read_text(), re.MULTILINE | re.DOTALL):
        value = yaml.safe_load(block)
        if "kind" not in value:
            spec = {"endpointSelector": {}, **value}
            metadata = {"name": "example", "namespace": "shop"}
            value = {"apiVersion": "cilium.io/v2", "kind": KINDS[0], "metadata": metadata, "spec": spec}
        found.append(value)
    return found


@cache
def policies() -> tuple[str, ...]:
    """All of them, as JSON."""
    with gzip.open(_RECORDED, "rt") as lines:
        cases = [json.loads(line) for line, _ in zip(lines, range(_CASES), strict=False)]
    recorded = [thing for case in cases for thing in case["objects"] if thing["kind"] in KINDS]
    return tuple(json.dumps(thing) for thing in [*manual() * 4, *recorded])
