# SPDX-License-Identifier: Apache-2.0
"""What a lab is made of: its nodes and its wire, from `lab.yaml` or by default, kept in `lab.json`."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab.place import DEFAULT_NAME, check_name
from ciliumpy.model.documents import MOST_BYTES, DocumentError, parse
from ciliumpy.model.option_names import from_document

if TYPE_CHECKING:
    from pathlib import Path

    from ciliumpy.model.options import PolicyOptions

WORLD_ADDRESSES = ("192.0.2.10", "2001:db8::10")  # RFC 5737, RFC 3849
WORLD_OTHERS = ("192.0.2.20", "2001:db8::20")  # it answers there too
_FIRST_NODE = 11
_MOST_NODES = 50
_LEAST_MTU, _MOST_MTU = 1330, 65535  # 1280, which IPv6 wants of a pod's device, and 50 of the tunnel's headers
_OVER_IPV6 = 20  # its header is so much longer


class NodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    labels: dict[str, str] = {}


class LabSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A lab as it is asked for. `agent` is merged into every agent's configuration."""

    name: str = DEFAULT_NAME
    nodes: tuple[NodeSpec, ...] = (NodeSpec("n1"), NodeSpec("n2"))
    wire: tuple[str, str] = ("172.30.0.0/24", "fd00:172:30::/64")
    pod_cidrs: tuple[str, str] = msgspec.field(name="podCIDRs", default=("10.244.0.0/16", "fd00:10:244::/48"))
    mtu: int = 1500
    underlay: Literal["auto", "ipv4", "ipv6"] = "auto"
    agent: dict[str, Any] = {}

    def policy_options(self) -> PolicyOptions:
        """Return what of the agents' settings changes what a policy may say."""
        return from_document(self.agent)

    def families(self) -> tuple[int, ...]:
        """Return the IP versions that the wire has: those of the pods, and the tunnel's."""
        network = self.agent.get("network")
        network = network if isinstance(network, dict) else {}
        return tuple(
            version
            for version, name in ((4, "ipv4"), (6, "ipv6"))
            if network.get(name, True) is not False or self.underlay == name
        )

    def tunnels_over_ipv6(self) -> bool:
        return self.underlay == "ipv6" or 4 not in self.families()

    def address(self, node: str) -> tuple[str, ...]:
        """Return the node's addresses on the wire, v4 before v6; only those of families that it has."""
        return self._on_wire(_FIRST_NODE + [n.name for n in self.nodes].index(node))

    def gateway(self) -> tuple[str, ...]:
        """Return the world's addresses on the wire: every node's default gateway."""
        return self._on_wire(1)

    def world(self) -> tuple[str, ...]:
        """Return the addresses that the world answers on."""
        return tuple(WORLD_ADDRESSES[0 if version == 4 else 1] for version in self.families())

    def wire_lengths(self) -> tuple[str, ...]:
        """Return the prefix lengths that go with `address` and `gateway`."""
        return tuple(self.wire[0 if version == 4 else 1].split("/")[1] for version in self.families())

    def _on_wire(self, number: int) -> tuple[str, ...]:
        v4, v6 = (ipaddress.ip_network(text) for text in self.wire)
        # The last digits are alike in both families, so that people see what belongs together.
        both = {4: str(v4.network_address + number), 6: str(v6.network_address + int(str(number), 16))}
        return tuple(both[version] for version in self.families())

    def labels(self, node: str) -> dict[str, str]:
        given = next(n.labels for n in self.nodes if n.name == node)
        return {"kubernetes.io/hostname": node, **given}


def load(path: Path | None, name: str | None) -> LabSpec:
    """Return the lab that the file describes, or the default one; `name` goes before the file's."""
    value: Any = {}
    if path is not None:
        try:
            with path.open("rb") as file:
                documents = parse(file.read(MOST_BYTES + 1))
        except OSError as error:
            raise CiliumpyError(f"cannot read {path}: {error.strerror}", exit_code=2) from error
        except DocumentError as error:
            raise CiliumpyError(f"{path}:{error.line}: {error.message}", exit_code=2) from error
        if len(documents) != 1 or not isinstance(documents[0].value, dict):
            raise CiliumpyError(f"{path} must hold one lab: a mapping with name, nodes, …", exit_code=2)
        value = {**documents[0].value}
        nodes = value.get("nodes")
        if isinstance(nodes, list):
            value["nodes"] = [{"name": n} if isinstance(n, str) else n for n in nodes]
    if name is not None:
        value["name"] = name
    try:
        spec = msgspec.convert(value, LabSpec)
    except msgspec.ValidationError as error:
        raise CiliumpyError(f"{path}: {error}", "docs/guide/lab.md lists the fields", 2) from error
    return _checked(spec, str(path) if path else "the lab")


def line_of(path: Path, field: tuple[str, ...]) -> int:
    """Return the line of the file that `load` has read at which the field stands."""
    return parse(path.read_bytes())[0].position(field)[0]


def _checked(spec: LabSpec, where: str) -> LabSpec:
    check_name(spec.name, "lab")
    names = [check_name(n.name, "node") for n in spec.nodes]
    if not 1 <= len(names) <= _MOST_NODES or len(set(names)) < len(names):
        raise CiliumpyError(f"{where}: nodes must be 1 to {_MOST_NODES} of different names", exit_code=2)
    least = _LEAST_MTU + (_OVER_IPV6 if spec.tunnels_over_ipv6() else 0)
    if not least <= spec.mtu <= _MOST_MTU:
        raise CiliumpyError(f"{where}: mtu must be {least} to {_MOST_MTU}, not {spec.mtu}", exit_code=2)
    world = WORLD_ADDRESSES + WORLD_OTHERS
    taken = [(f"the world's address {address}", ipaddress.ip_network(address)) for address in world]
    for field, texts in (("wire", spec.wire), ("podCIDRs", spec.pod_cidrs)):
        for version, text in zip((4, 6), texts, strict=True):
            try:
                network = ipaddress.ip_network(text)
            except ValueError as error:
                raise CiliumpyError(f"{where}: {field}: {error}", exit_code=2) from error
            if network.version != version or network.num_addresses < 2 * _MOST_NODES:
                raise CiliumpyError(f"{where}: {field}: {text} must be a larger IPv{version} network", exit_code=2)
            if network.is_multicast or network.is_loopback or network.is_link_local or not network.prefixlen:
                raise CiliumpyError(f"{where}: {field}: {text} has no addresses for nodes and pods", exit_code=2)
            for what, other in taken:
                if other.version == version and network.overlaps(other):
                    raise CiliumpyError(f"{where}: {field}: {text} overlaps with {what}", exit_code=2)
            taken.append((f"{field} {text}", network))
    return spec


def save(path: Path, spec: LabSpec) -> None:
    write_json(path, msgspec.to_builtins(spec))


def read(path: Path) -> LabSpec:
    """Return what `save` wrote. CiliumpyError if it is not there or not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise CiliumpyError(f"{path} cannot be read: {error}", "`ciliumpy lab down` removes the lab") from error


def write_json(path: Path, value: Any) -> None:
    """Replace the file at once: a reader sees the old or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    temporary.replace(path)
