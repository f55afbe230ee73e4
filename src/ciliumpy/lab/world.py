# SPDX-License-Identifier: Apache-2.0
"""`python -m ciliumpy.lab.world`: what answers outside the cluster, on TCP 80, 443 and 8080 and UDP 53."""

from __future__ import annotations

from ciliumpy.lab import privileges
from ciliumpy.lab.echo import EchoServer, Port

PORTS = (Port("TCP", 80), Port("TCP", 443), Port("TCP", 8080), Port("UDP", 53))


def main() -> None:
    server = EchoServer("world", PORTS)
    privileges.drop()
    server.run()


if __name__ == "__main__":
    main()
