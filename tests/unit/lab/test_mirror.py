# SPDX-License-Identifier: Apache-2.0
"""What the controller takes the store to hold, whatever becomes of its files."""

from __future__ import annotations

import pytest

from ciliumpy.lab import manifests
from ciliumpy.lab.mirror import Mirror
from ciliumpy.model.documents import DocumentError, parse
from ciliumpy.store.interface import Batch, Key, Read, Stored, StoreState

GOOD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\nspec: {containers: [{name: c}]}\n"
NODE = "apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: n}\nspec: {ipam: {podCIDRs: [10.0.0.0/24]}}\n"


def give(mirror, origin, text, *, state="ok"):
    if text is None:
        read = Read(origin, None)
    else:
        try:
            read = Read(origin, tuple(parse(text.encode())))
        except DocumentError as error:
            read = Read(origin, None, error)
    mirror.take(Batch([read], StoreState(state, "gone" if state == "error" else ""), synced=True))


def names(mirror):
    return [d["metadata"]["name"] for d in mirror.of("Pod")]


def test_a_bad_file_keeps_what_it_held_and_is_told_of():
    mirror = Mirror(manifests.check)
    give(mirror, "f.yaml", GOOD)
    assert (names(mirror), mirror.problems, mirror.synced) == (["a"], [], True)
    give(mirror, "f.yaml", "kind: [")
    assert names(mirror) == ["a"]
    assert mirror.problems[0].startswith("f.yaml:")
    give(mirror, "f.yaml", GOOD.replace("name: c", "name: 7"))
    assert names(mirror) == ["a"]
    assert mirror.problems == ["f.yaml:4: spec.containers[0].name: must be text; put it in quotes"]
    give(mirror, "f.yaml", None)
    assert (names(mirror), mirror.problems) == ([], [])


def test_a_bad_object_that_never_was_good_has_no_effect():
    mirror = Mirror(manifests.check)
    give(mirror, "f.yaml", GOOD.replace("containers:", "container:"))
    assert names(mirror) == []
    assert len(mirror.problems) == 1


@pytest.mark.parametrize(
    ("good", "bad", "field"),
    [
        (GOOD, GOOD.replace("name: a,", "name: a, labels: [b],"), "metadata.labels"),
        (GOOD, GOOD.replace("name: a,", "name: a, ownerReferences: b,"), "metadata.ownerReferences"),
        (GOOD, GOOD.replace("name: a,", "name: a, ownerReferences: [b],"), "metadata.ownerReferences[0]"),
        (GOOD, GOOD.replace("v1", "v2"), "apiVersion"),
        (NODE, NODE.replace("10.0.0.0/24", "garbage"), "spec.ipam.podCIDRs[0]"),
        (NODE, NODE.replace("{podCIDRs: [10.0.0.0/24]}", "all"), "spec.ipam"),
        (NODE, NODE.replace("{ipam: {podCIDRs: [10.0.0.0/24]}}", "[all]"), "spec"),
    ],
)
def test_what_agents_refuse_is_not_gone_by(good, bad, field):
    mirror = Mirror(manifests.check)
    give(mirror, "f.yaml", good)
    kind = "Pod" if good == GOOD else "CiliumNode"
    before = mirror.of(kind)
    assert len(before) == 1
    give(mirror, "f.yaml", bad)
    assert mirror.of(kind) == before
    assert mirror.problems[0].split(": ")[1] == field


def test_a_store_in_error_keeps_all():
    mirror = Mirror(manifests.check)
    give(mirror, "f.yaml", GOOD)
    mirror.take(Batch([], StoreState("error", "gone"), synced=False))
    assert (names(mirror), mirror.fault, mirror.synced) == (["a"], "gone", True)


def test_what_was_just_written_is_there_before_the_watch_tells():
    mirror = Mirror(manifests.check)
    document = parse(GOOD.encode())[0].value
    mirror.put(Stored(Key("Pod", "x", "a"), document, "1", "own.yaml"))
    give(mirror, "other.yaml", GOOD)
    assert names(mirror) == ["a"]
    mirror.remove("Pod", "x", "a")
    assert names(mirror) == []
