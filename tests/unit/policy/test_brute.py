# SPDX-License-Identifier: Apache-2.0
"""The engine against the brute-force evaluator, which reads the documents themselves, and against its own histories."""

from __future__ import annotations

import random
from itertools import product

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ciliumpy.policy.repository import Repository
from tests.soak import scaled
from tests.unit.policy.brute import verdict
from tests.unit.policy.engine import Engine, numbers, options
from tests.unit.policy.lookup import lookup
from tests.unit.policy.worlds import QUERIES, World, worlds


def test_the_rows_say_what_the_documents_say():
    sets = refused = 0

    @settings(max_examples=scaled(70), deadline=None, suppress_health_check=list(HealthCheck))
    @given(worlds(least=2))
    def agree(world: World) -> None:
        nonlocal sets, refused
        engine = Engine(world)
        sets += len(world.pods)
        refused += len(engine.refused)
        compare(world, engine)

    agree()
    assert refused * 100 <= sets, "at most one in a hundred does not fit"


def compare(world: World, engine: Engine) -> None:
    for pod, row in engine.sets.items():
        for peer, ingress, (protocol, port) in product((*world.pods, *world.others), (True, False), QUERIES):
            if peer is pod:
                continue
            wanted = verdict(world.documents, pod, peer, ingress=ingress, protocol=protocol, port=port, mode=world.mode)
            found = lookup(row, engine.vectors, engine.identity[peer], 0 if ingress else 1, protocol, port)
            assert found.verdict == wanted, (pod.texts, peer.texts, peer.address, ingress, protocol, port)
            event(wanted)


@settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(most=6), st.integers(0, 1 << 30))
def test_any_history_that_ends_alike_compiles_alike(world: World, seed: int):
    """Policies and pods come and go in any order; what a change does not name is not compiled again."""
    engine, dice = Engine(world), random.Random(seed)
    late = Repository(options(world.mode))
    compiled = {}
    steps = [("policy", key) for key in engine.policies] + [("pod", pod) for pod in world.pods]
    steps += [("ports", end) for end in engine.identity] + [("gone", key) for key in engine.policies]
    dice.shuffle(steps)
    for kind, what in [*steps, *(("policy", key) for key in engine.policies)]:
        match kind:
            case "policy":
                affected = late.set_policy(what, engine.policies[what])
            case "gone":
                affected = late.remove_policy(what)
            case "ports":
                affected = late.set_ports(engine.identity[what], numbers(what))
            case _:
                affected = late.set_subject(engine.identity[what], what.texts)
        for number in affected:
            pod = world.pods[number - 1000]
            compiled[number] = late.compile(number, numbers(pod))
    for pod in world.pods:
        number = engine.identity[pod]
        assert compiled[number] == engine.repository.compile(number, numbers(pod))
