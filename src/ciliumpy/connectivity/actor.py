# SPDX-License-Identifier: Apache-2.0
"""The process that acts in a pod, on a node or outside: a client and a server for TCP, UDP and ICMP.

It reads one JSON object a line from standard input, {"id", "do", ...}, works each off in a thread of its own, and
answers {"id", ...} on standard output. It ends with its input. Nothing but the standard library is used, and nothing
else of this package: the file can be run as it is where the package is not installed.

An answer has `ok`; `how` it failed (timeout, refused, reset, unreachable, unsent, wrong, failed) and `error` in words;
`source` and `port`, the client's own address and port (an echo's identifier).
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - sockets load it when they first connect, where it may not be seen any more
import errno
import json
import os
import socket
import struct
import sys
import threading
import time
import zlib
from collections import deque
from typing import Any, NoReturn

ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
IP_HEADER = {4: 20, 6: 40}
# linux/in.h, linux/in6.h; Python's socket module has not all of them
IP_MTU_DISCOVER, IP_MTU = 10, 14
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_DONTFRAG, IPV6_HDRINCL = 23, 24, 62, 36
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50
PMTUDISC_DO = 2
CHUNK = 65536
REMEMBERED = 4096  # datagrams of which the server knows that they came
HOW = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EACCES: "unreachable",
    errno.ENOBUFS: "unsent",  # dropped on its way out of the sender's own stack
}


class Wrong(Exception):  # noqa: N818 - an answer, not an error of this program
    """What came back is not what was to come."""


class Actor:
    """Serves until its input ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, socket.socket] = {}
        self._heard: deque[bytes] = deque(maxlen=REMEMBERED)
        self._verbs = {
            "listen": self._listen,
            "tcp": self._tcp,
            "udp": self._udp,
            "ping": self._ping,
            "bulk": self._bulk,
            "open": self._open,
            "exchange": self._exchange,
            "close": self._close,
            "forge": self._forge,
            "heard": self._was_heard,
        }

    def run(self) -> None:
        for line in sys.stdin.buffer:
            threading.Thread(target=self._work, args=(json.loads(line),), daemon=True).start()

    def _work(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"ok": True, "how": "", "error": "", "source": "", "port": 0}
        try:
            answer |= self._verbs[request["do"]](request, answer) or {}
        except Wrong as error:
            answer |= {"ok": False, "how": "wrong", "error": str(error)}
        except TimeoutError as error:
            answer |= {"ok": False, "how": "timeout", "error": str(error) or "timed out"}
        except OSError as error:
            answer |= {"ok": False, "how": HOW.get(error.errno or 0, "failed"), "error": str(error)}
        line = json.dumps({"id": request["id"], **answer}).encode() + b"\n"
        with self._lock:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    # Server.

    def _listen(self, request: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        """Serve these ports, 0: any one that is free. TCP echoes, UDP echoes and remembers."""
        ports = []
        for number in request["ports"]:
            stream = _bound(socket.SOCK_STREAM, number)
            stream.listen(128)
            chosen = stream.getsockname()[1]
            datagram = _bound(socket.SOCK_DGRAM, chosen)
            threading.Thread(target=self._accept, args=(stream,), daemon=True).start()
            threading.Thread(target=self._echo_datagrams, args=(datagram,), daemon=True).start()
            ports.append(chosen)
        return {"ports": ports}

    def _accept(self, listener: socket.socket) -> NoReturn:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()

    def _echo_datagrams(self, listener: socket.socket) -> NoReturn:
        while True:
            try:
                data, notes, _, sender = listener.recvmsg(CHUNK, 256)
                self._heard.append(data)
                # A host has many addresses: the answer must come from that which was asked.
                asked = [
                    (level, IPV6_PKTINFO, note[:16] + bytes(4))
                    for level, kind, note in notes
                    if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO)
                ]
                listener.sendmsg([data], asked, 0, sender)
            except OSError:  # what an error message says of one client is no matter for the others
                continue

    def _was_heard(self, request: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        return {"ok": request["token"].encode() in list(self._heard)}

    # Client.

    def _tcp(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        with _connected(request, answer) as connection:
            _converse(connection, request)
            _end(connection)

    def _udp(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        with _connected(request, answer) as connection:
            _converse(connection, request)

    def _bulk(self, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Send `size` bytes and read them back at the same time; the check sums must agree."""
        size = int(request["size"])
        block = os.urandom(CHUNK)
        with _connected(request, answer) as connection:
            sent = threading.Thread(target=_send_all, args=(connection, block, size), daemon=True)
            sent.start()
            received, check = 0, 0
            while received < size:
                data = connection.recv(CHUNK)
                if not data:
                    raise Wrong(f"the connection ended after {received} of {size} bytes")
                received += len(data)
                check = zlib.crc32(data, check)
            sent.join()
            _end(connection)
        wanted = 0
        for offset in range(0, size, CHUNK):
            wanted = zlib.crc32(block[: size - offset], wanted)
        if check != wanted:
            raise Wrong(f"{size} bytes came back changed")
        return {"bytes": received}

    def _open(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Connect and keep the connection under a name; a first line goes there and back."""
        connection = _connected(request, answer)
        self._kept[request["name"]] = connection
        _converse(connection, request)

    def _exchange(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        connection = self._kept.get(request["name"])
        if connection is None:
            raise Wrong("the connection was never made")
        connection.settimeout(request["timeout"])
        answer["source"], answer["port"] = connection.getsockname()[:2]
        _converse(connection, request)

    def _close(self, request: dict[str, Any], _: dict[str, Any]) -> None:
        connection = self._kept.pop(request["name"], None)
        if connection is not None:
            if connection.type == socket.SOCK_STREAM:  # at once, without a word that would be sent for minutes
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def _ping(self, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Send one echo request and wait for its answer. Size 0: as large as the route takes; never fragmented."""
        version = request["family"]
        number = answer["port"] = int.from_bytes(os.urandom(2), "big") or 1
        deadline = time.monotonic() + request["timeout"]
        with socket.socket(FAMILY[version], socket.SOCK_RAW, ICMP[version]) as raw:
            _never_fragment(raw, version)
            if request.get("from"):
                raw.bind((request.get("from"), 0))
            raw.connect((request["address"], 0))
            answer["source"] = raw.getsockname()[0]
            size = request.get("size", 56) or _mtu(raw, version) - IP_HEADER[version] - 8
            payload = os.urandom(size)
            raw.send(_echo_request(version, number, payload))
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no answer")
                raw.settimeout(left)
                data = raw.recv(CHUNK)
                if version == 4:
                    data = data[(data[0] & 15) * 4 :]
                kind, _, _, identifier, _ = struct.unpack_from("!BBHHH", data)
                if kind == ECHO_REPLY[version] and identifier == number:
                    if data[8:] != payload:
                        raise Wrong(f"{size} bytes came back changed")
                    return {"bytes": size}

    def _forge(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Send a datagram that says it is from `source`, from a port of nobody."""
        version = request["family"]
        answer["source"] = request["source"]
        answer["port"] = port = 40000 + int.from_bytes(os.urandom(2), "big") % 20000
        payload = request["token"].encode()
        source, target = (socket.inet_pton(FAMILY[version], request[k]) for k in ("source", "address"))
        length = 8 + len(payload)
        datagram = struct.pack("!HHHH", port, request["port"], length, 0) + payload
        pseudo = source + target + struct.pack("!II" if version == 6 else "!HH", length, 17)
        if version == 4:
            pseudo = source + target + struct.pack("!BBH", 0, 17, length)
        total = _checksum(pseudo + datagram) or 0xFFFF
        datagram = datagram[:6] + struct.pack("!H", total) + datagram[8:]
        if version == 4:
            header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, source, target)
        else:
            header = struct.pack("!IHBB16s16s", 6 << 28, length, 17, 64, source, target)
        with socket.socket(FAMILY[version], socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            if version == 6:
                raw.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
            raw.sendto(header + datagram, (request["address"], 0))


def _bound(kind: int, port: int) -> socket.socket:
    try:
        listener = socket.socket(socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        address = "::"
    except OSError:  # a kernel without IPv6
        listener = socket.socket(socket.AF_INET, kind)
        address = "0.0.0.0"  # noqa: S104 - the pod's addresses, all of them
    listener.bind((address, port))
    return listener


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(CHUNK):
                connection.sendall(data)
        except OSError:
            return


def _connected(request: dict[str, Any], answer: dict[str, Any]) -> socket.socket:
    """Return a connected socket; its own port is in the answer before anything is sent."""
    version = request["family"]
    kind = socket.SOCK_DGRAM if request["protocol"] == "udp" else socket.SOCK_STREAM
    connection = socket.socket(FAMILY[version], kind)
    connection.settimeout(request["timeout"])
    try:
        connection.bind((request.get("from") or ("0.0.0.0" if version == 4 else "::"), 0))  # noqa: S104 - to have a port
        answer["port"] = connection.getsockname()[1]
        try:
            connection.connect((request["address"], request["port"]))
        finally:
            answer["source"] = connection.getsockname()[0]
    except OSError:
        connection.close()
        raise
    return connection


def _converse(connection: socket.socket, request: dict[str, Any]) -> None:
    """Say a line that nobody has said before and hear it again."""
    line = request.get("token", "").encode() or os.urandom(16).hex().encode()
    connection.sendall(line)
    heard = b""
    while len(heard) < len(line):
        data = connection.recv(CHUNK)
        if not data:
            raise Wrong("the connection was ended")
        heard += data
        if heard != line[: len(heard)] and connection.type == socket.SOCK_DGRAM:
            heard = b""  # late, of what was said before
    if heard != line:
        raise Wrong(f"something else came back: {heard[:40]!r}")


def _end(connection: socket.socket) -> None:
    """End the connection from both sides: a FIN still under way would be cut by the next test's policy."""
    connection.shutdown(socket.SHUT_WR)
    if connection.recv(CHUNK):
        raise Wrong("more came back than was sent")


def _send_all(connection: socket.socket, block: bytes, size: int) -> None:
    try:
        for offset in range(0, size, CHUNK):
            connection.sendall(block[: size - offset])
    except OSError:  # the reader notices
        return


def _never_fragment(raw: socket.socket, version: int) -> None:
    if version == 4:
        raw.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    else:
        raw.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        raw.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)


def _mtu(raw: socket.socket, version: int) -> int:
    if version == 4:
        return int(raw.getsockopt(socket.IPPROTO_IP, IP_MTU))
    return int(raw.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU))


def _echo_request(version: int, number: int, payload: bytes) -> bytes:
    packet = struct.pack("!BBHHH", ECHO_REQUEST[version], 0, 0, number, 1) + payload
    if version == 6:  # the kernel fills it in
        return packet
    return packet[:2] + struct.pack("!H", _checksum(packet)) + packet[4:]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main() -> None:
    Actor().run()


if __name__ == "__main__":
    main()
