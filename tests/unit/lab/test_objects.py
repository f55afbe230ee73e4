# SPDX-License-Identifier: Apache-2.0
"""What `lab apply` reads from manifests, and how it says what of them has no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import objects
from ciliumpy.lab.spec import LabSpec

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


def test_manifests_are_judged_by_the_settings_of_the_labs_agents(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("ingress: [{}]", "ingress: [{fromNodes: [{}]}]"))
    with pytest.raises(CiliumpyError, match=r"policy\.yaml:6: spec\.ingress\[0\]\.fromNodes: needs node labels"):
        objects.read(str(file))
    agent = {"policy": {"nodeSelectorLabels": True, "hostFirewall": True}, "log": {"level": "debug"}}
    (found,) = objects.read(str(file), LabSpec(agent=agent).policy_options())
    assert found.notices == ()


def test_a_device_has_no_end_and_is_refused() -> None:
    with pytest.raises(CiliumpyError, match="/dev/zero:0: is larger than 1 MiB"):
        objects.read("/dev/zero")


KINDS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec: {podSelector: {}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: a}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumCIDRGroup
metadata: {name: a}
spec: {externalCIDRs: [10.0.0.0/8]}
---
apiVersion: v1
kind: Service
metadata: {name: a}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a}
addressType: IPv4
"""


def test_policies_of_all_kinds_and_what_they_name_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(KINDS)
    found = objects.read(str(file))
    assert [str(manifest.key) for manifest in found] == [
        "NetworkPolicy/default/a",
        "ClusterNetworkPolicy/a",
        "CiliumCIDRGroup/a",
        "Service/default/a",
        "EndpointSlice/default/a",
    ]
    assert [manifest.notices != () for manifest in found] == [False, True, False, False, False], "one kind is off"
    file.write_text(KINDS.replace("networking.k8s.io/v1\n", "extensions/v1beta1\n", 1))
    with pytest.raises(CiliumpyError, match=r"apiVersion: must be networking\.k8s\.io/v1"):
        objects.read(str(file))


@pytest.mark.parametrize(
    ("word", "kind"),
    [("netpol", "NetworkPolicy"), ("svc", "Service"), ("ccg", "CiliumCIDRGroup"), ("cnp", "CiliumNetworkPolicy")],
)
def test_kinds_have_the_short_names_that_users_know(word: str, kind: str) -> None:
    assert objects.kind_of(word) == kind
