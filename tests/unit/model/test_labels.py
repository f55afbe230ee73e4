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


@pytest.mark.parametrize(
    ("entries", "kept", "dropped"),
    [
        (
            ["k8s:app"],
            ["app", "application", "io.kubernetes.pod.namespace", "app.kubernetes.io/name"],
            ["tier", "k8s-app"],
        ),
        (["!tier"], ["app"], ["tier", "tier-2"]),
        (["k8s:!tier", "!role$"], ["app", "roles"], ["tier", "role"]),
        (["container:!app"], ["app"], []),
        (
            ["topology\\.kubernetes\\.io/zone"],
            ["topology.kubernetes.io/zone"],
            ["topology.kubernetes.io/region", "app"],
        ),
        (["!app", "app\\.team"], ["app.team"], ["app.other", "tier"]),
        (["!.*"], ["io.kubernetes.pod.namespace"], ["app"]),
    ],
)
def test_a_filter_of_ones_own_comes_on_top_of_the_default(entries, kept, dropped):
    accept = LabelFilter(entries)
    assert [key for key in (*kept, *dropped) if accept(Label("k8s", key))] == kept
    assert accept(Label("reserved", "host")), "reserved labels always count"


@pytest.mark.parametrize(
    ("entry", "message"),
    [("", "names no label"), ("!", "names no label"), ("k8s:", "names no label"), ("k8s:!(", "no regular expression")],
)
def test_an_entry_that_says_nothing_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        LabelFilter([entry])


def test_a_pod_may_ask_for_a_fixed_identity_by_its_name():
    labels = [("app", "db"), ("io.cilium.fixed-identity", "kv-store")]
    assert pod_labels("shop", labels, fixed=["kv-store"]) == ("reserved:kv-store",)
    assert "k8s:app=db" in pod_labels("shop", labels, fixed=["other"])
    assert "k8s:app=db" in pod_labels("shop", labels)
    assert "k8s:app=db" in pod_labels("shop", labels[:1], fixed=["kv-store"])


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
