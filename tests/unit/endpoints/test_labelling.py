# SPDX-License-Identifier: Apache-2.0
"""Where CIDRs match pods too, an endpoint has the label of the longest named prefix that it lies in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ciliumpy.endpoints.labelling import INIT_LABELS, Labelling
from ciliumpy.state.database import Database
from ciliumpy.tables.endpoints import Endpoint
from ciliumpy.tables.identities import CIDR_PREFIXES, CidrPrefix
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import CIDR_GROUPS, CidrGroup, Pod

POD = Pod("shop", "api", labels=(("app", "api"),))
OWN = (
    "k8s:app=api",
    "k8s:io.cilium.k8s.policy.cluster=default",
    "k8s:io.cilium.k8s.policy.serviceaccount=default",
    "k8s:io.kubernetes.pod.namespace=shop",
)
GROUP = "cidrgroup:io.cilium.policy.cidrgroupname/vpn"


def endpoint(*labels: str) -> Endpoint:
    return Endpoint(
        1, 1, "shop", "api", "c", "eth0", "lxc1", 1, 2, "", "", ipv4="10.1.0.5", ipv6="fd00::5", labels=labels
    )


class Node:
    def __init__(self, *, match_pods: bool = True) -> None:
        self.db = Database(ALL_TABLES)
        self.named = asyncio.Event()
        self.labelling = Labelling(self.db, match_pods=match_pods)
        self.asked = asyncio.Event()

    def name(self, *prefixes: str) -> None:
        with self.db.write() as txn:
            for row in list(txn.all(CIDR_PREFIXES)):
                txn.delete(CIDR_PREFIXES, row.prefix)
            for prefix in prefixes:
                txn.upsert(CIDR_PREFIXES, CidrPrefix(prefix))

    async def relabel(self) -> None:
        self.asked.set()

    async def again(self) -> None:
        """Wait until every endpoint's labels were asked for again."""
        await asyncio.wait_for(self.asked.wait(), 10)
        self.asked.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        job = asyncio.create_task(self.labelling.run(self.named, self.relabel))
        try:
            yield
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)

    def added(self, row: Endpoint | None = None) -> list[str]:
        return sorted(set(self.labelling.labels(POD, row or endpoint())) - set(OWN))


async def test_the_longest_prefix_of_each_address_is_a_label_and_follows_what_is_named() -> None:
    node = Node()
    node.name("10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "192.0.2.0/24")
    node.named.set()
    async with node.running():
        await node.again()
        assert node.added() == ["cidr:10.1.0.0/16", "cidr:fd00--0/8"]
        node.name("10.0.0.0/8")
        await node.again()
        assert node.added() == ["cidr:10.0.0.0/8"]
        with node.db.write() as txn:
            txn.upsert(CIDR_GROUPS, CidrGroup("vpn", (("a", "b"),), ("10.0.0.0/8",)))
        await node.again()
        assert node.added() == ["cidr:10.0.0.0/8", "cidrgroup:a", "cidrgroup:a=b", GROUP]
        with node.db.write() as txn:
            txn.delete(CIDR_GROUPS, "vpn")
        await node.again()
        assert node.added() == ["cidr:10.0.0.0/8"]
        node.name()
        await node.again()
        assert node.added() == []


async def test_until_it_is_known_what_is_named_an_endpoint_keeps_what_it_had() -> None:
    node = Node()
    before = endpoint("cidr:10.1.0.0/16", GROUP, "k8s:app=old")
    async with node.running():
        for _ in range(5):
            await asyncio.sleep(0)  # the job is where it waits
        assert not node.asked.is_set()
        assert node.added(before) == ["cidr:10.1.0.0/16", GROUP], "a restart changes no identity"
        node.named.set()
        await node.again()
        assert node.added(before) == []


async def test_reserved_labels_stay_alone() -> None:
    node = Node()
    node.name("10.0.0.0/8")
    node.named.set()
    async with node.running():
        await node.again()
        assert node.labelling.with_prefixes(INIT_LABELS, endpoint()) == INIT_LABELS


@pytest.mark.parametrize("before", [endpoint(), endpoint("cidr:10.1.0.0/16")])
async def test_where_cidrs_do_not_match_pods_no_pod_has_such_a_label(before: Endpoint) -> None:
    node = Node(match_pods=False)
    assert node.added(before) == []
