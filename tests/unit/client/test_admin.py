# SPDX-License-Identifier: Apache-2.0
"""The client against a socket that answers byte by byte what a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError

Answering = Callable[[bytes], AdminClient]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    path = tmp_path / "agent.sock"
    threads = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def start(answer: bytes) -> AdminClient:
            def once() -> None:
                connection, _ = listener.accept()
                with connection:
                    assert connection.recv(4096).startswith(b"GET /v1/x HTTP/1.1\r\n")
                    for at in range(0, len(answer), 7):
                        connection.sendall(answer[at : at + 7])

            threads.append(threading.Thread(target=once))
            threads[-1].start()
            return AdminClient(path, timeout_s=2)

        yield start
        for thread in threads:
            thread.join(5)


def test_a_body_of_known_length(answering: Answering) -> None:
    assert answering(b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{"a": 1}').get("/v1/x") == {"a": 1}


def test_a_chunked_body(answering: Answering) -> None:
    chunks = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5;x=y\r\n": 1}\r\n0\r\n\r\n'
    assert answering(chunks).get("/v1/x") == {"a": 1}


def test_a_body_until_the_end(answering: Answering) -> None:
    assert answering(b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}').get("/v1/x") == {"a": 1}


def test_lines_of_a_stream(answering: Answering) -> None:
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\na\nbc\r\n4\r\n\nd\nx\r\n0\r\n\r\n"
    assert list(answering(chunks).stream("/v1/x")) == [b"a", b"bc", b"d", b"x"]


def test_the_agent_s_own_words(answering: Answering) -> None:
    body = b'{"message": "there is no endpoint 9", "hint": "list them"}'
    client = answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    with pytest.raises(CiliumpyError) as error:
        client.get("/v1/x")
    assert (error.value.message, error.value.hint) == ("there is no endpoint 9", "list them")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "does not speak HTTP"),
        (b"SSH-2.0\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "hung up"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", "hung up"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope", "no JSON"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", "with status 503"),
    ],
)
def test_what_is_no_answer(answer: bytes, message: str, answering: Answering) -> None:
    with pytest.raises(CiliumpyError, match=message):
        answering(answer).get("/v1/x")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(CiliumpyError) as error:
        AdminClient(tmp_path / "none.sock").get("/v1/x")
    assert error.value.message == "the agent is not running"
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    with pytest.raises(CiliumpyError, match="the agent is not running"):
        AdminClient(dead).get("/v1/x")


def test_an_agent_that_is_stuck(tmp_path: Path) -> None:
    path = tmp_path / "stuck.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(CiliumpyError, match=r"did not answer within 0\.1 s"):
            AdminClient(path, timeout_s=0.1).get("/v1/x")
