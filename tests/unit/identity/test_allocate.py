# SPDX-License-Identifier: Apache-2.0
"""Which number comes next, and what an identity looks like in the store."""

from __future__ import annotations

import pytest

from ciliumpy.identity.allocate import document, free_number, labels_of
from ciliumpy.kit.errors import CiliumpyError


def test_numbers_go_up_and_around():
    assert free_number(set()) == 256
    assert free_number({256, 300}) == 301
    assert free_number({1 << 24, 256}) == 257
    assert free_number(set(range(300, 65536))) == 256
    with pytest.raises(CiliumpyError, match="all 65280 identities of the cluster are in use"):
        free_number(set(range(256, 65536)))


def test_labels_survive_the_store():
    labels = ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:note", "k8s:x=a:b")
    written = document(300, labels)
    assert written["metadata"] == {"name": "300", "labels": {"io.kubernetes.pod.namespace": "shop"}}
    assert labels_of(written) == labels
    assert labels_of({"security-labels": []}) == labels_of({}) == ()
