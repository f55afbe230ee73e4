# SPDX-License-Identifier: Apache-2.0
"""Audit mode of a real agent: what policy forbids passes and is told of, until the mode ends."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager

import pytest

from ciliumpy.client.admin import AdminClient

from .agent_node import passes, policy

pytestmark = pytest.mark.root


def endpoint(node, name: str) -> dict:
    return next(row for row in node.get("/v1/endpoints")["items"] if row["pod"] == name)


def audit(node, name: str, mode: str) -> dict:
    path = f"/v1/endpoints/{endpoint(node, name)['id']}/config"
    return AdminClient(node.run / "agent.sock").put(path, {"PolicyAuditMode": mode})


@contextmanager
def verdicts(node):
    """Policy verdicts as they happen: call it for the next one."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(node.run / "agent.sock"))
        client.sendall(b"GET /v1/monitor?type=policy-verdict HTTP/1.0\r\nHost: agent\r\n\r\n")
        lines = client.makefile("rb")
        while lines.readline().strip():
            pass

        def following(port: int) -> dict:
            while True:
                line = lines.readline()
                if line.startswith(b"{") and (found := json.loads(line))["summary"]["l4"].get("dst") == port:
                    return found

        yield following


def test_a_live_connection_is_audited_and_cut_when_the_mode_ends(node) -> None:
    a, b = node.add("a"), node.add("b")
    audit(node, "b", "Enabled")
    node.apply("policy", policy("b-from-nobody", "b", peer=None))
    node.until(lambda: endpoint(node, "b")["policyEnabled"] == "audit-ingress")
    assert endpoint(node, "b")["policy"] == {"ingress": "disabled (audit)", "egress": "disabled"}
    with b.listen(8080), verdicts(node) as following:
        with a.connect(b.addresses[0], 8080) as connection:
            said = following(8080)
            assert (said["action"], said["direction"]) == ("audit", "ingress")
            assert passes(connection)

            assert node.stop() == 0
            assert passes(connection), "the datapath stays as it is"
            node.start()
            node.until(lambda: endpoint(node, "b")["policyEnabled"] == "audit-ingress")
            assert passes(connection), "the mode is kept"

            answer = audit(node, "b", "Disabled")
            assert (answer["policyEnabled"], answer["options"]) == ("ingress", {"PolicyAuditMode": "Disabled"})
            assert not passes(connection), "what policy forbids is cut at once"
        assert not a.can_connect(b.addresses[1], 8080, 0.3)
        audit(node, "b", "Enabled")
        assert a.can_connect(b.addresses[1], 8080)


def test_the_agents_mode_is_every_endpoints_that_says_nothing_else(make_node) -> None:
    node = make_node(policy={"auditMode": True, "enforcement": "always"})
    node.start()
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    with b.listen(8080), c.listen(8080):
        assert a.can_connect(b.addresses[0], 8080)
        assert endpoint(node, "b")["policyEnabled"] == "audit-both"
        audit(node, "c", "Disabled")
        assert endpoint(node, "c")["policyEnabled"] == "both"
        assert not a.can_connect(c.addresses[0], 8080, 0.3)
        audit(node, "c", "Default")
        assert a.can_connect(c.addresses[0], 8080)
