# SPDX-License-Identifier: Apache-2.0
"""A blocking client of the agent's admin API: HTTP/1.1 and JSON over its unix socket.

Written on a bare socket because http.client costs 15 ms of every command's start. One request, one connection.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ciliumpy.client.target import Target

TIMEOUT_S = 5.0
_PLAIN = frozenset(range(33, 127)) - frozenset(b'%"<>\\^`{|}#')
MAX_LINE = 65536  # of the status line or a header


class RefusedError(CiliumpyError):
    """The agent takes none of what it was given; `faults` say what is wrong with which: index, path, message."""

    def __init__(self, message: str, hint: str | None, faults: list[dict[str, Any]]) -> None:
        super().__init__(message, hint)
        self.faults = faults


class AdminClient:
    """The admin API of one agent."""

    def __init__(self, socket_path: Path, agent: str = "", *, version: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self.socket_path = socket_path
        self.start_hint = f"nobody listens on {socket_path}"
        self.agent = agent
        self.version = version
        self.timeout_s = timeout_s

    @classmethod
    def of(cls, target: Target, *, timeout_s: float = TIMEOUT_S) -> AdminClient:
        """Return the client of a target; CiliumpyError if its agent has not announced itself."""
        if not target.running:
            raise CiliumpyError("the agent is not running", _start_hint(target))
        client = cls(target.admin_socket, target.node, version=target.version, timeout_s=timeout_s)
        client.start_hint = _start_hint(target)
        return client

    def get(self, path: str) -> Any:
        """Return the object that `path` answers; CiliumpyError with the agent's own words if it refuses."""
        return self._ask(path)

    def put(self, path: str, value: Any) -> Any:
        """Send `value` to `path` and return what it answers; CiliumpyError as `get`."""
        import json

        return self._ask(path, method="PUT", body=json.dumps(value).encode())

    def post(self, path: str, value: Any) -> Any:
        """As `put`; RefusedError where the agent says what of it is wrong."""
        import json

        return self._ask(path, method="POST", body=json.dumps(value).encode())

    def _ask(self, path: str, **request: Any) -> Any:
        with self._request(path, **request) as answer:
            body = answer.read()
        value = _json(body, path)
        if answer.status >= 400:
            raise self._refusal(path, answer.status, value)
        return value

    def _refusal(self, path: str, status: int, value: Any) -> CiliumpyError:
        said = value if isinstance(value, dict) else {}
        message = said.get("message") or f"the agent answered {path} with status {status}"
        if message.endswith((": Not Found", ": Method Not Allowed")):
            return self._other_version(path)
        if "faults" in said:
            return RefusedError(message, said.get("hint") or None, said["faults"])
        return CiliumpyError(message, said.get("hint") or None)

    def _other_version(self, path: str) -> CiliumpyError:
        from ciliumpy import __version__

        of = f": it is version {self.version}, and this command {__version__}" if self.version else ""
        return CiliumpyError(
            f"the agent does not know {path}{of}", "restart the agent with the version of this command"
        )

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the lines that `path` sends, without their end, until the agent ends it."""
        with self._request(path, timeout_s=None) as answer:
            if answer.status >= 400:
                raise self._refusal(path, answer.status, _json(answer.read(), path))
            rest = b""
            for part in answer.parts():
                *lines, rest = (rest + part).split(b"\n")
                yield from lines
            if rest:
                yield rest

    def _request(self, path: str, timeout_s: float | None = 0, *, method: str = "GET", body: bytes = b"") -> Answer:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout_s)
        try:
            connection.connect(str(self.socket_path))
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            head = f"{method} {_quoted(path)} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n{length}\r\n"
            connection.sendall(head.encode() + body)
            answer = Answer(connection)
        except OSError as error:
            connection.close()
            raise self._explain(error) from error
        except CiliumpyError:
            connection.close()
            raise
        if timeout_s is None:
            connection.settimeout(None)
        return answer

    def _explain(self, error: OSError) -> CiliumpyError:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return CiliumpyError("the agent is not running", self.start_hint)
        if isinstance(error, PermissionError):
            return CiliumpyError(f"no permission for {self.socket_path}", "run it as root (sudo)")
        if isinstance(error, TimeoutError):
            return CiliumpyError(f"the agent did not answer within {self.timeout_s:g} s", f"on {self.socket_path}")
        return CiliumpyError(f"the agent cannot be asked: {error}", f"on {self.socket_path}")


class Answer:
    """An HTTP answer whose head has been read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file: BinaryIO = connection.makefile("rb")
        self.headers: dict[bytes, bytes] = {}
        try:
            self.status = self._read_head()
        except BaseException:
            self._file.close()
            raise

    def _read_head(self) -> int:
        start = self._file.readline(MAX_LINE).split(None, 2)
        if len(start) < 2 or not start[0].startswith(b"HTTP/1.") or not start[1].isdigit():
            raise CiliumpyError("what listens on the agent's socket does not speak HTTP")
        while (line := self._file.readline(MAX_LINE)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.partition(b":")
            self.headers[name.strip().lower()] = value.strip()
        return int(start[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._connection.close()

    def read(self) -> bytes:
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """Yield the body as it comes; CiliumpyError if it ends early."""
        try:
            if self.headers.get(b"transfer-encoding", b"").lower() == b"chunked":
                while size := int(self._line().split(b";")[0], 16):
                    yield self._exactly(size)
                    self._exactly(2)
            elif b"content-length" in self.headers:
                yield self._exactly(int(self.headers[b"content-length"]))
            else:
                while part := self._file.read1(MAX_LINE):  # type: ignore[attr-defined]
                    yield part
        except (OSError, ValueError) as error:
            raise CiliumpyError(f"the agent's answer broke off: {error}") from error

    def _line(self) -> bytes:
        line = self._file.readline(MAX_LINE)
        if not line:
            raise _broken()
        return line

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise _broken()
        return data


def _quoted(path: str) -> str:
    """Return a path as it may stand in a request; names in it come from users."""
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in path.encode())


def _json(body: bytes, path: str) -> Any:
    import json

    try:
        return json.loads(body)
    except ValueError as error:
        raise CiliumpyError(f"the agent answered {path} with something that is no JSON: {error}") from error


def _broken() -> CiliumpyError:
    return CiliumpyError("the agent hung up", "it may have been stopped; `ciliumpy status` tells")


def _start_hint(target: Target) -> str:
    from ciliumpy.client.target import labs, preferred

    if not target.lab:
        return "start it, or look into its log"
    lab = f" --lab {target.lab}" if len(labs()) > 1 and preferred() != target.lab else ""
    return f"`ciliumpy lab start {target.node}{lab}` starts it"
