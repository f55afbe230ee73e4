# SPDX-License-Identifier: Apache-2.0
"""Which Pods a Deployment gets, and where they run."""

from __future__ import annotations

import random
import re

from ciliumpy.lab import manifests, schedule
from ciliumpy.lab.schedule import Owned

LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def deployment(replicas=2, tier="api", name="api"):
    return manifests.deployment(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"tier": tier}},
                "template": {"metadata": {"labels": {"tier": tier}}, "spec": {"containers": [{"name": "c"}]}},
            },
        }
    )


def owned(document, *, running=True):
    metadata = document["metadata"]
    return Owned(metadata["namespace"], metadata["name"], *schedule.owner_of(document), running)


def plan(deployments, pods=()):
    return schedule.plan(deployments, list(pods), random.Random(1))


def test_missing_pods_are_made_as_kubernetes_names_them():
    made = plan([deployment()]).create
    assert len(made) == 2
    for document in made:
        assert re.fullmatch(
            r"api-[bcdfghjklmnpqrstvwxz2456789]{9}-[bcdfghjklmnpqrstvwxz2456789]{5}", manifests.pod(document).name
        )
        assert document["metadata"]["labels"]["tier"] == "api"
        assert document["metadata"]["labels"]["pod-template-hash"] in document["metadata"]["name"]
        assert schedule.owner_of(document)[0] == "api"
    assert len({d["metadata"]["name"] for d in made}) == 2


def test_nothing_is_done_when_all_is_there():
    pods = [owned(d) for d in plan([deployment()]).create]
    assert plan([deployment()], pods) == schedule.Plan([], [])


def test_scaling_down_keeps_what_runs():
    first, second = (owned(d, running=i == 0) for i, d in enumerate(plan([deployment()]).create))
    assert plan([deployment(1)], [second, first]).delete == [("shop", second.name)]
    assert len(plan([deployment(0)], [first, second]).delete) == 2


def test_a_changed_template_brings_new_pods_and_the_old_go_when_those_run():
    old = [owned(d) for d in plan([deployment()]).create]
    rollout = plan([deployment(tier="web")], old)
    assert (len(rollout.create), rollout.delete) == (2, [])
    new = [owned(d, running=False) for d in rollout.create]
    assert plan([deployment(tier="web")], old + new) == schedule.Plan([], [])
    new = [n._replace(running=True) for n in new]
    assert plan([deployment(tier="web")], old + new).delete == [("shop", o.name) for o in old]


def test_pods_of_a_deleted_deployment_go():
    pods = [owned(d) for d in plan([deployment()]).create]
    assert len(plan([], pods).delete) == 2


def test_a_pod_with_a_foreign_owner_is_nobodys():
    assert schedule.owner_of({"metadata": {"name": "x"}}) is None
    reference = {"kind": "ReplicaSet", "name": "api-abc"}
    assert (
        schedule.owner_of({"metadata": {"labels": {"pod-template-hash": "xyz"}, "ownerReferences": [reference]}})
        is None
    )


NODES = {"n1": {"disk": "ssd"}, "n2": {}, "n3": {"disk": "ssd"}}


def pod(selector=None):
    spec = {"containers": [{"name": "c"}], "nodeSelector": selector or {}}
    return manifests.pod({"kind": "Pod", "metadata": {"name": "p"}, "spec": spec})


def test_pods_of_a_deployment_are_spread():
    placed = []
    for _ in range(6):
        placed.append((schedule.choose(pod(), "api", NODES, schedule.Placed(placed)), "api"))
    assert [n for n, _ in placed] == ["n1", "n2", "n3"] * 2


def test_others_go_where_there_is_least():
    assert schedule.choose(pod(), "db", NODES, schedule.Placed([("n1", "api"), ("n2", "api"), ("n1", "api")])) == "n3"


def test_a_node_selector_is_respected():
    assert schedule.choose(pod({"disk": "ssd"}), "api", NODES, schedule.Placed([("n1", "api")])) == "n3"
    assert schedule.choose(pod({"disk": "tape"}), "api", NODES, schedule.Placed()) is None
