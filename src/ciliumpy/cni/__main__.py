# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy-cni`: one call of the runtime. Reads the environment and standard input, answers on standard output."""

from __future__ import annotations

import fcntl
import os
import sys

from ciliumpy.cni import agent, jsondoor, protocol
from ciliumpy.cni.protocol import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x4000_0000
_LONGEST_CONFIG = 1 << 20


def main() -> None:
    environment = dict(os.environ)
    if environment.get("CNI_COMMAND"):
        answer, status = run(environment, sys.stdin.buffer.read(_LONGEST_CONFIG + 1))
        if answer is not None:
            sys.stdout.write(jsondoor.dumps(answer) + "\n")
        sys.exit(status)
    from ciliumpy.cni import install

    sys.exit(install.main(sys.argv[1:]))


def run(environment: Mapping[str, str], stdin: bytes) -> tuple[dict[str, Any] | None, int]:
    """Return what goes to standard output (None: nothing) and the exit status."""
    version = protocol.LATEST
    try:
        command = _command(environment)
        document = _document(stdin)
        if command == "VERSION":
            return protocol.version_answer(document), 0
        version = protocol.version_of(document, command)
        config = protocol.parse_config(document, command)
        return _serve(command, config, protocol.parse_request(environment, command)), 0
    except CniError as error:
        return protocol.error_answer(version, error), 1
    except Exception as error:  # noqa: BLE001 - the runtime must get the specification's JSON, whatever happened
        unexpected = CniError(protocol.INTERNAL, f"unexpected: {error}", type(error).__name__)
        return protocol.error_answer(version, unexpected), 1


def _command(environment: Mapping[str, str]) -> str:
    command = environment["CNI_COMMAND"]
    if command not in protocol.COMMANDS:
        raise CniError(
            protocol.INVALID_ENVIRONMENT,
            f"CNI_COMMAND {command!r} is not supported",
            f"supported: {', '.join(protocol.COMMANDS)}",
        )
    return command


def _document(stdin: bytes) -> dict[str, Any]:
    if len(stdin) > _LONGEST_CONFIG:
        raise CniError(protocol.DECODING_FAILURE, "the network configuration is longer than 1 MiB")
    return protocol.parse_document(stdin)


def _serve(command: str, config: protocol.Config, request: protocol.Request) -> dict[str, Any] | None:
    fd = _open_namespace(request.netns, strict=command in {"ADD", "CHECK"})
    outcome = "failed"
    try:
        if command == "DEL":
            outcome = agent.delete(config, request, fd)
            return None
        result = agent.ask(config.agent_socket, request.message(command, config), fd)
        outcome = "done"
        if command != "ADD":
            return None
        if config.previous is not None:  # handed on as it came
            return {**config.previous, "cniVersion": config.version}
        return protocol.result_in(config.version, result)
    except CniError as error:
        outcome = f"error {error.code}: {error.message}"
        if command == "STATUS" and isinstance(error, agent.AgentDownError):
            raise CniError(protocol.UNAVAILABLE, error.message, error.details) from error
        raise
    finally:
        if fd is not None:
            os.close(fd)
        _log(config.log_file, f"{command} {request.container_id} {request.ifname}: {outcome}")


def _open_namespace(path: str, *, strict: bool) -> int | None:
    """Open the pod's network namespace. A DEL works without: the runtime may have removed it already."""
    if not path:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if not strict:
            return None
        code = protocol.UNKNOWN_CONTAINER if isinstance(error, FileNotFoundError) else protocol.IO_FAILURE
        raise CniError(code, f"cannot open CNI_NETNS {path}: {error.strerror}") from error
    fault = _namespace_fault(fd)
    if not fault:
        return fd
    os.close(fd)
    if not strict:
        return None
    raise CniError(protocol.INVALID_ENVIRONMENT, f"CNI_NETNS {path} {fault}")


def _namespace_fault(fd: int) -> str:
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        return "is not a namespace"
    if kind != _CLONE_NEWNET:
        return "is not a network namespace"
    if os.path.sameopenfile(fd, own := os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)):
        os.close(own)
        return "is the plugin's own network namespace"
    os.close(own)
    return ""


def _log(path: str, line: str) -> None:
    if not path:
        return
    from ciliumpy.kit.clock import SystemClock

    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{SystemClock().now_ns() / 1e9:.3f} {line}\n".encode())
        finally:
            os.close(fd)
    except OSError as error:
        sys.stderr.write(f"ciliumpy-cni: cannot write to {path}: {error.strerror}\n")


if __name__ == "__main__":
    main()
