# SPDX-License-Identifier: Apache-2.0
"""Entities: names for groups of peers that are not selected by their own labels."""

from __future__ import annotations

from ciliumpy.model.labels import CLUSTER
from ciliumpy.model.selectors import EVERYBODY, NOBODY, Selector, equals, exists, one_of

_ONE = ("host", "init", "ingress", "remote-node", "health", "unmanaged", "kube-apiserver", "world-ipv4", "world-ipv6")
_CLUSTER = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
NAMES = ("all", "cluster", "cluster-mesh", "none", "world", *_ONE)


def entity(name: str, cluster: str) -> Selector:
    """The selector of an entity as `cluster` sees it; KeyError for an unknown name."""
    reserved = {each: [exists("reserved", each)] for each in _ONE}
    match name:
        case "all":
            return EVERYBODY
        case "none":
            return NOBODY
        case "world":
            return one_of([[exists("reserved", "world")], reserved["world-ipv4"], reserved["world-ipv6"]])
        case "cluster":
            return one_of([*(reserved[each] for each in _CLUSTER), [equals("k8s", CLUSTER, cluster)]])
        case "cluster-mesh":
            return one_of([*(reserved[each] for each in _CLUSTER), [exists("k8s", CLUSTER)]])
        case _:
            return one_of([reserved[name]])
