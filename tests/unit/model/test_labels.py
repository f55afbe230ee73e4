# SPDX-License-Identifier: Apache-2.0
"""Labels, the filter, and what becomes of a pod's labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.model.identity import Reserved, reserved_identities, to_wire, world
from ciliumpy.model.labels import Label, LabelFilter, parse, pod_labels, texts


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("k8s:app=web", Label("k8s", "app", "web")),
        ("reserved:host", Label("reserved", "host", "")),
        ("app=web", Label("unspec", "app", "web")),
        ("k8s:note=a:b=c", Label("k8s", "note", "a:b=c")),
        ("cidr:fd00--/8", Label("cidr", "fd00--/8", "")),
    ],
)
def test_parse(text, label):
    assert parse(text) == label
    assert parse(str(label)) == label


@given(
    st.lists(st.builds(Label, st.sampled_from(["k8s", "any"]), st.text("ab./-", min_size=1), st.text("ab", max_size=2)))
)
def test_a_label_set_has_one_form(labels):
    assert texts(labels) == texts(reversed(labels))
    assert {parse(text) for text in texts(labels)} == set(labels)


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("app", True),
        ("app.kubernetes.io/name", True),
        ("io.kubernetes.pod.namespace", True),
        ("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", True),
        ("io.cilium.k8s.policy.cluster", True),
        ("node-role.kubernetes.io/control-plane", True),
        ("io.kubernetes.container.name", False),
        ("kubernetes.io/hostname", False),
        ("beta.kubernetes.io/arch", False),
        ("my.beta.kubernetes.io/arch", False),
        ("k8s.io/x", False),
        ("pod-template-hash", False),
        ("controller-revision-hash", False),
        ("statefulset.kubernetes.io/pod-name", False),
        ("apps.kubernetes.io/pod-index", False),
        ("batch.kubernetes.io/controller-uid", False),
        ("annotation.anything", False),
        ("topology.kubernetes.io/zone", False),
    ],
)
def test_the_default_filter(key, kept):
    assert LabelFilter()(Label("k8s", key)) is kept


def test_a_filter_that_only_keeps_drops_the_rest():
    only = LabelFilter(keep=["app"], drop=[])
    assert [only(Label("k8s", key)) for key in ("app", "tier")] == [True, False]
    assert only(Label("reserved", "host"))


def test_the_identity_labels_of_a_pod():
    labels = pod_labels(
        "shop",
        [("app", "web"), ("pod-template-hash", "5d9c5")],
        namespace_labels=[("kubernetes.io/metadata.name", "shop"), ("team", "red")],
        service_account="runner",
        cluster="blue",
    )
    assert labels == (
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        "k8s:io.cilium.k8s.namespace.labels.team=red",
        "k8s:io.cilium.k8s.policy.cluster=blue",
        "k8s:io.cilium.k8s.policy.serviceaccount=runner",
        "k8s:io.kubernetes.pod.namespace=shop",
    )


def test_a_pod_cannot_claim_what_only_the_cluster_says():
    claims = [
        ("io.kubernetes.pod.namespace", "kube-system"),
        ("io.cilium.k8s.policy.cluster", "other"),
        ("io.cilium.k8s.policy.serviceaccount", "admin"),
        ("io.cilium.k8s.namespace.labels.team", "admins"),
    ]
    assert pod_labels("shop", claims) == pod_labels("shop", [])


def test_reserved_identities_by_family():
    both, one = reserved_identities(), reserved_identities(ipv6=False)
    assert both[9] == ("reserved:world-ipv4",)
    assert both[7] == ("reserved:kube-apiserver", "reserved:remote-node")
    assert set(both) - set(one) == {9, 10}
    assert [world(ipv6_address=v6) for v6 in (False, True)] == [Reserved.WORLD_IPV4, Reserved.WORLD_IPV6]
    assert world(ipv6_address=False, ipv6=False) is Reserved.WORLD


@pytest.mark.parametrize(
    ("identity", "wire"), [(1, 6), (9, 2), (10, 2), (2, 2), (6, 6), (300, 300), (1 << 24 | 5, 2), (2 << 24 | 5, 6)]
)
def test_what_is_on_the_wire(identity, wire):
    assert to_wire(identity) == wire
