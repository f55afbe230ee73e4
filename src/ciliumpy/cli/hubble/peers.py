# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy hubble watch peers`."""

from __future__ import annotations

import sys

from ciliumpy.cli.hubble.asked import server
from ciliumpy.cli.options import Lab, Node
from ciliumpy.cli.terminal import printable
from ciliumpy.client import target


def run(lab: Lab = None, node: Node = None) -> None:
    """Show the nodes that a server names, and then what changes, until Ctrl-C.

    One agent is asked; each knows all nodes of the cluster. The addresses are where a Hubble server would listen; these
    agents answer on their own sockets only.
    """
    from ciliumpy.client.observer import follow
    from ciliumpy.proto import peer_pb2

    one = next((each for each in target.select(lab, node) if each.running), target.select(lab, node)[0])
    for change in follow(server(one), "/peer.Peer/Notify", peer_pb2.NotifyRequest(), peer_pb2.ChangeNotification):
        kind = peer_pb2.ChangeNotificationType.Name(change.type)
        tls = f" (TLS.ServerName: {change.tls.server_name})" if change.HasField("tls") else ""
        sys.stdout.write(printable(f"{kind:<12} {change.address} {change.name}{tls}\n"))
        sys.stdout.flush()
