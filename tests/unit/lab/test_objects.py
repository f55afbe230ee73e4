# SPDX-License-Identifier: Apache-2.0
"""What `lab apply` reads from manifests, and how it says what of them has no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import objects

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: host}
spec:
  nodeSelector: {}
  ingress: [{}]
"""


def test_a_notice_names_the_field_and_then_says_what_of_it(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (found,) = objects.read(str(tmp_path / "policy.yaml"))
    assert found.notices[0].startswith("spec.nodeSelector: has no effect")


def test_a_device_has_no_end_and_is_refused() -> None:
    with pytest.raises(CiliumpyError, match="/dev/zero:0: is larger than 1 MiB"):
        objects.read("/dev/zero")
