# SPDX-License-Identifier: Apache-2.0
"""The CNI specification without any I/O: environment and configuration in, results and errors out.

Source: containernetworking/cni SPEC.md 1.1.0, sections 2 (execution protocol) and 5 (result types). Two spellings of
GC's list are taken, `cni.dev/valid-attachments` of the specification and `cni.dev/attachments`, which libcni sends too.
"""

from __future__ import annotations

from ciliumpy.cni import jsondoor

TYPE_CHECKING = False  # `typing` would be a tenth of the plugin's run
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
DEFAULT_SOCKET = "/run/ciliumpy/cni.sock"
SINCE = {"ADD": "0.3.1", "DEL": "0.3.1", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
COMMANDS = (*SINCE, "VERSION")

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
UNAVAILABLE = 50  # STATUS: an ADD would fail
LIMITED = 51  # STATUS: and pods that are there may be cut off from some
INTERNAL = 100  # the specification leaves 100 and above to plugins

_NAMED_FIELDS = frozenset({"cniVersion", "cniVersions", "name", "type", "agentSocket", "logFile"})
# Keys that the runtime and the specification may add, with no meaning for us.
_RUNTIME_FIELDS = frozenset(
    {"disableCheck", "disableGC", "loadOnlyInlinedPlugins", "capabilities", "runtimeConfig", "args", "prevResult"}
)
_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
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


class Config:
    """The network configuration from standard input. Paths are absolute, `attachments` are those GC shall keep."""

    def __init__(
        self,
        version: str,
        name: str,
        agent_socket: str,
        log_file: str,
        previous: dict[str, Any] | None = None,
        attachments: list[dict[str, str]] | None = None,
    ) -> None:
        self.version = version
        self.name = name
        self.agent_socket = agent_socket
        self.log_file = log_file
        self.previous = previous
        self.attachments = attachments


class Request:
    """What the runtime asks for by environment variables. All may be empty for GC and STATUS, `netns` for DEL."""

    def __init__(
        self,
        container_id: str = "",
        ifname: str = "",
        netns: str = "",
        pod_namespace: str = "",
        pod_name: str = "",
        pod_uid: str = "",
    ) -> None:
        self.container_id = container_id
        self.ifname = ifname
        self.netns = netns
        self.pod_namespace = pod_namespace
        self.pod_name = pod_name
        self.pod_uid = pod_uid

    def message(self, command: str, config: Config | None = None) -> bytes:
        """Return the line that the agent is sent."""
        body: dict[str, Any] = {
            "command": command,
            "containerID": self.container_id,
            "ifname": self.ifname,
            "netns": self.netns,
            "podNamespace": self.pod_namespace,
            "podName": self.pod_name,
            "podUID": self.pod_uid,
        }
        if config is not None:
            body["network"] = config.name
            if config.previous is not None and command != "DEL":
                body["prevResult"] = config.previous
            if config.attachments is not None:
                body["attachments"] = config.attachments
        return jsondoor.dumps(body).encode() + b"\n"


def parse_document(data: bytes) -> dict[str, Any]:
    """Return the JSON object on standard input."""
    try:
        document = jsondoor.loads(data)
    except (ValueError, RecursionError) as error:
        raise CniError(
            DECODING_FAILURE, "the network configuration on standard input is not JSON", str(error)
        ) from error
    if not isinstance(document, dict):
        raise CniError(DECODING_FAILURE, "the network configuration on standard input is not a JSON object")
    return document


def version_of(document: Mapping[str, Any], command: str = "ADD") -> str:
    """Return the version that the configuration is written in, if it has the command."""
    version = document.get("cniVersion")
    if version not in VERSIONS:
        said = f"cniVersion {version!r} is not supported" if version else "cniVersion is missing"
        raise CniError(INCOMPATIBLE_VERSION, said, f"supported versions: {', '.join(VERSIONS)}")
    if VERSIONS.index(version) < VERSIONS.index(SINCE[command]):
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version} has no {command}", f"it came with {SINCE[command]}")
    return str(version)


def parse_config(document: Mapping[str, Any], command: str) -> Config:
    """Check the configuration. A DEL is lenient with what it need not know, so that it can always clean up."""
    version = version_of(document, command)
    if command in {"ADD", "CHECK", "STATUS"}:
        _refuse_unsupported(document)
    name = _text(document, "name")
    if not _is_identifier(name):
        raise CniError(INVALID_CONFIG, f"name {name!r} is not valid: letters, digits and _.- are, a letter first")
    _text(document, "type")
    return Config(
        version,
        name,
        _path(document, "agentSocket", default=DEFAULT_SOCKET),
        _path(document, "logFile", default=""),
        _previous(document, version, command),
        _attachments(document) if command == "GC" else None,
    )


def _previous(document: Mapping[str, Any], version: str, command: str) -> dict[str, Any] | None:
    """Return the result of the plugin before; CHECK must have one, of the whole list."""
    previous = document.get("prevResult")
    if command not in {"ADD", "CHECK"}:
        return None
    if previous is None:
        if command == "CHECK":
            raise CniError(INVALID_CONFIG, "prevResult is missing: CHECK compares with the result of ADD")
        return None
    if not isinstance(previous, dict):
        raise CniError(INVALID_CONFIG, f"prevResult must be an object, not {previous!r}")
    if previous.get("cniVersion", version) not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {previous['cniVersion']!r} of prevResult is not supported")
    return previous


def _attachments(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what GC shall keep. A list that is missing or not whole is refused: it would remove what is in use."""
    present = [document[key] for key in _ATTACHMENTS if document.get(key) is not None]
    if not present:
        raise CniError(INVALID_CONFIG, f"{_ATTACHMENTS[0]} is missing: GC removes whatever it does not name")
    kept = []
    for attachment in (each for attachments in present for each in _list(attachments)):
        container_id, ifname = attachment.get("containerID"), attachment.get("ifname")
        if not isinstance(container_id, str) or not isinstance(ifname, str) or not container_id or not ifname:
            raise CniError(INVALID_CONFIG, f"{_ATTACHMENTS[0]} has {attachment!r}: containerID and ifname are texts")
        kept.append({"containerID": container_id, "ifname": ifname})
    return kept


def _list(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise CniError(INVALID_CONFIG, f"{_ATTACHMENTS[0]} must be a list of objects, not {value!r}")
    return value


def _refuse_unsupported(document: Mapping[str, Any]) -> None:
    for key, value in document.items():
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
    """Check the environment variables of ADD, DEL and CHECK; all that are wrong are named at once."""
    if command in {"GC", "STATUS"}:
        return Request()
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
    if command != "DEL" and not netns.startswith("/"):
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
