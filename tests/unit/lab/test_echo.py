# SPDX-License-Identifier: Apache-2.0
"""The echo server over real sockets: its own process, on ports that were free a moment ago."""

from __future__ import annotations

import multiprocessing
import socket

import pytest

from ciliumpy.lab.echo import EchoServer, Port


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(tcp, udp, ready):
    server = EchoServer("pod-1", [Port("TCP", tcp), Port("UDP", udp)])
    ready.set()
    server.run()


@pytest.fixture(scope="module")
def ports():
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    process = context.Process(target=serve, args=(tcp, udp, ready))
    process.start()
    try:
        assert ready.wait(10)
        yield tcp, udp
    finally:
        process.kill()
        process.join()


def exchange(port, *parts, finish=False, address="127.0.0.1"):
    """Send the parts, each after an answer to the one before, and return all answers."""
    with socket.create_connection((address, port), timeout=5) as client:
        received = b""
        for part in parts:
            client.sendall(part)
            received += client.recv(65536)
        if finish:
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(65536):
                received += data
        return received


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\npod-1\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_http_in_200_with_the_name_out(ports, address):
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert exchange(ports[0], request, request, address=address) == ANSWER * 2


def test_http_in_pieces_and_pipelined(ports):
    with socket.create_connection(("127.0.0.1", ports[0]), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n":
            client.sendall(bytes([byte]))
        received = b""
        while len(received) < 2 * len(ANSWER):
            received += client.recv(65536)
        assert received == ANSWER * 2


def test_http_closes_when_asked(ports):
    answer = exchange(ports[0], b"GET / HTTP/1.0\r\n\r\n", finish=True)
    assert b"Connection: close" in answer
    head = exchange(ports[0], b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n", finish=True)
    assert head.endswith(b"\r\n\r\n")


def test_anything_else_gets_a_line(ports):
    assert exchange(ports[0], b"hello\n") == b"pod-1\n"
    assert exchange(ports[0], b"hello\n", b"again\n") == b"pod-1\n" * 2
    assert exchange(ports[0], b"\x16\x03\x01") == b"pod-1\n"
    assert exchange(ports[0], finish=True) == b"pod-1\n"
    assert exchange(ports[0], b"x", finish=True) == b"pod-1\n"


def test_udp(ports):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"x", ("127.0.0.1", ports[1]))
        assert client.recv(100) == b"pod-1\n"


def test_a_client_that_only_sends_does_not_fill_the_server(ports):
    with socket.create_connection(("127.0.0.1", ports[0]), timeout=5) as greedy:
        greedy.setblocking(False)
        sent = 0
        try:
            while sent < 1 << 24:
                sent += greedy.send(b"x" * 65536)
        except BlockingIOError:
            pass
        assert exchange(ports[0], b"hello\n") == b"pod-1\n"
