# SPDX-License-Identifier: Apache-2.0
"""Rules that name services: the pods behind them, or their backends' addresses, as they come and go."""

from __future__ import annotations

from ciliumpy.model.rule import Rule, ServicePeer
from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.tables.identities import CIDR_PREFIXES
from ciliumpy.tables.source import ENDPOINT_SLICES, SERVICES, EndpointSlice, Service
from tests.unit.enforcement.world import World, app

RULE = Rule("spec.egress[0]", app("web"), Direction.EGRESS, Verdict.ALLOW, (ServicePeer("default", "svc"),), None)


def world() -> World:
    made = World()
    made.identity(9, "reserved:world-ipv4")
    made.identity(300, "k8s:app=web")
    made.identity(301, "k8s:app=api", "k8s:io.kubernetes.pod.namespace=default")
    made.endpoint(1, 300)
    made.policy("p", RULE)
    return made


def service(made: World, *selector: tuple[str, str]) -> None:
    with made.db.write() as txn:
        txn.upsert(SERVICES, Service("default", "svc", (), selector))


def backends(made: World, *addresses: str) -> None:
    with made.db.write() as txn:
        txn.upsert(ENDPOINT_SLICES, EndpointSlice("default", "svc-1", "svc", addresses))


def reaches(made: World, peer: int) -> bool:
    return made.verdict(300, peer, Direction.EGRESS, 80) == "allowed"


async def test_a_service_means_the_pods_that_it_selects():
    made = world()
    await made.settle()
    assert not reaches(made, 301), "there is no such service"
    service(made, ("app", "api"))
    backends(made, "10.0.0.7")
    await made.settle()
    assert reaches(made, 301)
    assert not made.db.table(CIDR_PREFIXES).all(), "pods are known by their labels"
    service(made, ("app", "other"))
    await made.settle()
    assert not reaches(made, 301)


async def test_a_service_without_a_selector_is_its_backends():
    made = world()
    service(made)
    backends(made, "192.0.2.7", "192.0.2.8")
    await made.controller.round()
    assert {row.prefix for row in made.db.table(CIDR_PREFIXES).all()} == {"192.0.2.7/32", "192.0.2.8/32"}
    made.kernel.take_sets()
    await made.controller.round()
    assert made.status("p")[0] == "pending", "its backends have no identities yet"
    await made.settle()
    assert made.status("p") == ("done", "")
    found = [reaches(made, made.identity_of(address)) for address in ("192.0.2.7", "192.0.2.8", "192.0.2.9")]
    assert found == [True, True, False]
    backends(made, "192.0.2.8", "2001:db8::9")
    await made.settle()
    assert {row.prefix for row in made.db.table(CIDR_PREFIXES).all()} == {"192.0.2.8/32", "2001:db8::9/128"}
    found = [reaches(made, made.identity_of(address)) for address in ("192.0.2.7", "192.0.2.8", "2001:db8::9")]
    assert found == [False, True, True]
    made.no_policy("p")
    await made.settle()
    assert not made.db.table(CIDR_PREFIXES).all(), "nobody names the service any more"
