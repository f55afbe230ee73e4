# SPDX-License-Identifier: Apache-2.0
"""Guard 5: a connection that policy has cut stays cut, whichever end speaks next."""

from __future__ import annotations

import pytest

from tests.bpf.node import INGRESS, Level, Node
from tests.bpf.packets import ACK, SYN, tcp

pytestmark = pytest.mark.root


def test_5_a_connection_that_is_cut_does_not_begin_anew_from_the_other_end(node: Node, version: int) -> None:
    """The server itself may ask, so what it sends again would be allowed as a connection of its own."""
    client, server, _ = node.pods
    ends = client.ip[version], server.ip[version], 4000, 80
    back = server.ip[version], client.ip[version], 80, 4000
    assert node.pod(client, tcp(*ends, SYN)).passed
    assert node.pod(server, tcp(*back, SYN | ACK)).passed
    assert node.pod(client, tcp(*ends, ACK)).passed

    node.policy(server, INGRESS)  # the client may no longer ask
    assert node.pod(client, tcp(*ends, ACK, b"data")).reason == 133
    assert node.pod(server, tcp(*back, ACK, b"again")).reason == 133
    assert node.pod(client, tcp(*ends, ACK, b"data")).reason == 133

    node.policy(server, INGRESS, {(6, 80): node.port_class(Level(everybody=True))})  # and goes on when it may
    assert node.pod(client, tcp(*ends, ACK, b"data")).passed
    assert node.pod(server, tcp(*back, ACK, b"again")).passed
