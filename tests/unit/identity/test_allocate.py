# SPDX-License-Identifier: Apache-2.0
"""Which number comes next, and what an identity looks like in the store."""

from __future__ import annotations

import pytest

from ciliumpy.identity.allocate import FreeNumbers, document, heartbeat_ns, labels_of
from ciliumpy.kit.errors import CiliumpyError


def test_numbers_go_up_and_around():
    assert FreeNumbers(set()).take() == 256
    assert FreeNumbers({256, 300}).take() == 301
    assert FreeNumbers({1 << 24, 256}).take() == 257
    assert FreeNumbers({9}).take() == 256
    rest = FreeNumbers(set(range(300, 65536)) | {257})
    assert [rest.take() for _ in range(3)] == [256, 258, 259]
    few = FreeNumbers(set(range(256, 65534)))
    assert [few.take() for _ in range(2)] == [65534, 65535]
    with pytest.raises(CiliumpyError, match="all 65280 identities of the cluster are in use"):
        few.take()


def test_a_number_that_is_wanted_back_is_given_if_it_is_free():
    free = FreeNumbers({256, 300})
    assert [free.take(280), free.take(280), free.take(300), free.take()] == [280, 301, 302, 303]


def test_an_object_says_when_it_was_begun_to_be_used():
    now_ns = 1_700_000_000_123_456_000
    assert heartbeat_ns(document(300, ("k8s:app=web",), now_ns)) == now_ns
    assert heartbeat_ns(document(300, ("k8s:app=web",))) == 0
    for text in ("", "soon", 7, "2026-01-01T00:00:00", "0000-00-00", None):
        assert heartbeat_ns({"metadata": {"annotations": {"io.cilium.heartbeat": text}}}) == 0
    assert heartbeat_ns({"metadata": {"annotations": []}}) == heartbeat_ns({}) == 0


def test_labels_survive_the_store():
    labels = ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:note", "k8s:x=a:b")
    written = document(300, labels)
    assert written["metadata"] == {"name": "300", "labels": {"io.kubernetes.pod.namespace": "shop"}}
    assert labels_of(written) == labels
    assert labels_of({"security-labels": []}) == labels_of({}) == ()
