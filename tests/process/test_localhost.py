# SPDX-License-Identifier: Apache-2.0
"""Whether the node reaches its own pods: by what their policy says and the agent's settings, and by nothing else."""

from __future__ import annotations

import pytest

from .test_agent import policy

pytestmark = pytest.mark.root


def enforced(node, name: str) -> str:
    return next(row for row in node.get("/v1/endpoints")["items"] if row["pod"] == name)["policyEnabled"]


def from_host(name: str, subject: str) -> dict:
    document = policy(name, subject, peer=None)
    document["spec"]["ingress"] = [{"fromEntities": ["host"]}]
    return document


def test_where_policy_is_always_enforced_a_pod_without_a_rule_is_closed_to_the_node(make_node) -> None:
    node = make_node(policy={"enforcement": "always"})
    node.start()
    pod = node.add("a")
    node.until(lambda: enforced(node, "a") == "both")
    with pod.listen(8080):
        assert not node.place.can_connect(pod.addresses[0], 8080, 0.3)
        node.apply("policy", policy("a-from-nobody", "a", peer=None))
        assert node.place.can_connect(pod.addresses[0], 8080, 20), "a rule for it, and the node is let in"


def test_where_the_node_is_like_others_policy_lets_it_in_or_not(make_node) -> None:
    node = make_node(policy={"allowLocalhost": "policy"})
    node.start()
    pod = node.add("a")
    with pod.listen(8080):
        assert node.place.can_connect(pod.addresses[0], 8080)
        node.apply("policy", policy("a-from-nobody", "a", peer=None))
        node.until(lambda: enforced(node, "a") == "ingress")
        assert not node.place.can_connect(pod.addresses[0], 8080, 0.3)
        node.apply("policy", from_host("a-from-host", "a"))
        assert node.place.can_connect(pod.addresses[0], 8080, 20)
