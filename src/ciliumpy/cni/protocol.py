# SPDX-License-Identifier: Apache-2.0
"""The CNI specification without any I/O: environment and configuration in, results and errors out.

Source: containernetworking/cni SPEC.md 1.1.0, sections 2 (execution protocol) and 5 (result types).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
DEFAULT_SOCKET = "/run/ciliumpy/cni.sock"
COMMANDS = ("ADD", "DEL", "VERSION")

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
INTERNAL = 100  # the specification leaves 100 and above to plugins

_NAMED_FIELDS = frozenset({"cniVersion", "cniVersions", "name", "type", "agentSocket", "logFile"})
# Keys that the runtime and the specification may add, with no meaning for us.
_RUNTIME_FIELDS = frozenset(
    {"disableCheck", "disableGC", "loadOnlyInlinedPlugins", "capabilities", "runtimeConfig", "args", "prevResult"}
)
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_IDENTIFIER = _ALPHANUMERIC | frozenset("_.-")
_LONGEST_IDENTIFIER = 200  # it becomes part of a file's name
_LONGEST_IFNAME = 15


class CniError(Exception):
    """An error as the specification prints it."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class Config(NamedTuple):
    """The network configuration from standard input. Paths are absolute."""

    version: str
    name: str
    agent_socket: str
    log_file: str


class Request(NamedTuple):
    """What the runtime asks for by environment variables. `netns` may be empty for DEL."""

    container_id: str
    ifname: str
    netns: str
    pod_namespace: str
    pod_name: str
    pod_uid: str

    def message(self, command: str) -> bytes:
        """Return the line that the agent is sent."""
        body = {
            "command": command,
            "containerID": self.container_id,
            "ifname": self.ifname,
            "netns": self.netns,
            "podNamespace": self.pod_namespace,
            "podName": self.pod_name,
            "podUID": self.pod_uid,
        }
        return json.dumps(body).encode() + b"\n"


def parse_document(data: bytes) -> dict[str, Any]:
    """Return the JSON object on standard input."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CniError(
            DECODING_FAILURE, "the network configuration on standard input is not JSON", str(error)
        ) from error
    if not isinstance(document, dict):
        raise CniError(DECODING_FAILURE, "the network configuration on standard input is not a JSON object")
    return document


def version_of(document: Mapping[str, Any]) -> str:
    """Return the version that the configuration is written in."""
    version = document.get("cniVersion")
    if version not in VERSIONS:
        said = f"cniVersion {version!r} is not supported" if version else "cniVersion is missing"
        raise CniError(INCOMPATIBLE_VERSION, said, f"supported versions: {', '.join(VERSIONS)}")
    return str(version)


def parse_config(document: Mapping[str, Any], command: str) -> Config:
    """Check the configuration. A DEL is lenient with what it need not know, so that it can always clean up."""
    version = version_of(document)
    if command == "ADD":
        _refuse_unsupported(document)
    name = _text(document, "name")
    if not _is_identifier(name):
        raise CniError(INVALID_CONFIG, f"name {name!r} is not valid: letters, digits and _.- are, a letter first")
    _text(document, "type")
    return Config(
        version, name, _path(document, "agentSocket", default=DEFAULT_SOCKET), _path(document, "logFile", default="")
    )


def _refuse_unsupported(document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        if key == "prevResult" and value is not None:
            raise CniError(
                UNSUPPORTED_FIELD, "prevResult is not supported", "this plugin must be the first of its list"
            )
        if key == "ipam" and value:
            raise CniError(
                UNSUPPORTED_FIELD, f"ipam: {value!r} is not supported", "the agent gives out addresses; remove `ipam`"
            )
        if key not in _NAMED_FIELDS | _RUNTIME_FIELDS | {"ipam", "dns"} and not key.startswith("cni.dev/"):
            raise CniError(
                UNSUPPORTED_FIELD,
                f"{key}: {value!r} is not supported",
                f"the plugin's own keys are {', '.join(sorted(_NAMED_FIELDS - {'cniVersions'}))}",
            )


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise CniError(INVALID_CONFIG, f"{key} must be a non-empty string, not {value!r}")
    return value


def _path(document: Mapping[str, Any], key: str, default: str) -> str:
    if key not in document:
        return default
    value = _text(document, key)
    if not value.startswith("/") or "\0" in value:
        raise CniError(INVALID_CONFIG, f"{key} must be an absolute path, not {value!r}")
    return value


def parse_request(environment: Mapping[str, str], command: str) -> Request:
    """Check the environment variables of ADD and DEL; all that are wrong are named at once."""
    wrong: list[str] = []
    details: list[str] = []

    def need(key: str, fault: str) -> None:
        wrong.append(key)
        details.append(f"{key} {fault}")

    container_id = environment.get("CNI_CONTAINERID", "")
    if not _is_identifier(container_id):
        need("CNI_CONTAINERID", _fault(container_id, "letters, digits and _.-, at most 200"))
    ifname = environment.get("CNI_IFNAME", "")
    if not is_interface_name(ifname):
        need("CNI_IFNAME", _fault(ifname, "an interface name of at most 15 bytes"))
    netns = environment.get("CNI_NETNS", "")
    if command == "ADD" and not netns.startswith("/"):
        need("CNI_NETNS", _fault(netns, "an absolute path"))
    arguments: dict[str, str] = {}
    for pair in filter(None, environment.get("CNI_ARGS", "").split(";")):
        key, separator, value = pair.partition("=")
        if not separator:
            need("CNI_ARGS", f"has {pair!r}: it must be key=value pairs separated by ;")
            break
        arguments[key] = value
    if wrong:
        raise CniError(
            INVALID_ENVIRONMENT, f"environment variables missing or not valid: {', '.join(wrong)}", "; ".join(details)
        )
    return Request(
        container_id,
        ifname,
        netns,
        arguments.get("K8S_POD_NAMESPACE", ""),
        arguments.get("K8S_POD_NAME", ""),
        arguments.get("K8S_POD_UID", ""),
    )


def _fault(value: str, wanted: str) -> str:
    return f"is {value!r}: it must be {wanted}" if value else "is missing"


def _is_identifier(text: str) -> bool:
    return bool(text) and len(text) <= _LONGEST_IDENTIFIER and text[0] in _ALPHANUMERIC and _IDENTIFIER.issuperset(text)


def is_interface_name(text: str) -> bool:
    """Tell whether the kernel takes it as a device's name."""
    return (
        0 < len(text.encode("utf-8", "surrogateescape")) <= _LONGEST_IFNAME
        and text not in {".", ".."}
        and not any(c in "/:" or c.isspace() or not c.isprintable() for c in text)
    )


def version_answer(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to VERSION: in the caller's version if we know it, else in our latest."""
    version = document.get("cniVersion")
    return {"cniVersion": version if version in VERSIONS else LATEST, "supportedVersions": list(VERSIONS)}


def result_in(version: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the agent's 1.1.0 result in the shape of an older version."""
    answer = {**result, "cniVersion": version}
    if version != LATEST:
        # Interfaces had neither MTU nor socket before 1.1.0.
        answer["interfaces"] = [
            {k: v for k, v in i.items() if k in {"name", "mac", "sandbox"}} for i in result.get("interfaces", [])
        ]
    if version.startswith("0."):
        answer["ips"] = [{"version": "6" if ":" in ip["address"] else "4", **ip} for ip in result.get("ips", [])]
    return answer


def error_answer(version: str, error: CniError) -> dict[str, Any]:
    answer: dict[str, Any] = {"cniVersion": version, "code": error.code, "msg": error.message}
    if error.details:
        answer["details"] = error.details
    return answer
