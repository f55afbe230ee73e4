# SPDX-License-Identifier: Apache-2.0
"""What the running kernel can do, asked of the kernel itself: it is tried, not guessed from a version.

Nothing stays but a device's module, which the kernel loads when it is asked for the device.

Standard library only, because `ciliumpy preflight` is a short command. Without privileges the answer is "unknown".
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.bpf import sys
from ciliumpy.bpf.sys import AttachType, MapType

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHED_CLS = 3
_HELPERS = {"redirect_neigh": (152, "5.10"), "redirect_peer": (155, "5.10"), "map_lookup_percpu_elem": (195, "5.19")}
_RTM_NEWLINK = 16
_IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_NUM_TX_QUEUES = 18, 1, 31


class Feature(NamedTuple):
    """`found` is None where it cannot be seen without root; that has no cure of its own.

    `needed` says since when Linux has it. Without what is `optional` all works, but worse.
    """

    name: str
    found: bool | None
    needed: str
    cure: str = ""
    optional: bool = False


def features() -> list[Feature]:
    """Try everything that the datapath stands on, in the order in which it is best cured."""
    newer = "boot a newer kernel"
    page = os.sysconf("SC_PAGESIZE")
    return [
        _answer("bpf(2)", "4.9", "boot a kernel with CONFIG_BPF_SYSCALL=y", _map, MapType.ARRAY, 4, 8),
        _answer("map: LRU hash", "4.10", newer, _map, MapType.LRU_HASH, 4, 8),
        _answer("map: LPM trie", "4.11", newer, _map, MapType.LPM_TRIE, 8, 8, sys.BPF_F_NO_PREALLOC),
        _answer("map: ring buffer", "5.8", newer, _map, MapType.RINGBUF, 0, 0, 0, page),
        _answer("tcx links", "6.6", "none needed: filters on clsact do instead", _tcx)._replace(optional=True),
        *(_answer(f"helper: {name}", since, newer, _helper, number) for name, (number, since) in _HELPERS.items()),
        *(
            _answer(f"device: {kind}", "4.3", f"modprobe {kind}, or boot a kernel that has it", _device, kind)
            for kind in ("veth", "vxlan", "bridge")
        ),
    ]


def has_tcx() -> bool:
    """Tell whether programs can be put on devices by tcx links, here and by us."""
    try:
        _tcx()
    except OSError:
        return False
    return True


def _answer(name: str, since: str, cure: str, attempt: Callable[..., None], *arguments: Any) -> Feature:
    needed = f"Linux {since}"
    try:
        attempt(*arguments)
    except OSError as error:
        found = None if error.errno == errno.EPERM else False
        return Feature(name, found, needed, "" if found is None else cure)
    return Feature(name, found=True, needed=needed)


def _map(kind: MapType, key: int, value: int, flags: int = 0, entries: int = 1) -> None:
    os.close(sys.map_create(kind, key, value, entries, flags=flags))


def _program(*instructions: tuple[int, int, int]) -> int:
    """Load a tc program of (opcode, registers, immediate); its descriptor."""
    code = b"".join(struct.pack("=BBhi", opcode, registers, 0, value) for opcode, registers, value in instructions)
    return sys.program_load(_SCHED_CLS, code)


def _helper(number: int) -> None:
    """EINVAL if the kernel has no such helper; r1 to r4 are 0, and a refusal of these (EACCES) means that it has it."""
    zero = [(0xB7, register, 0) for register in (1, 2, 3, 4)]
    try:
        os.close(_program(*zero, (0x85, 0, number), (0xB7, 0, 0), (0x95, 0, 0)))
    except OSError as error:
        if error.errno != errno.EACCES:
            raise


def _tcx() -> None:
    """A kernel that has tcx misses the device 0; another does not know the attach type."""
    program = _program((0xB7, 0, 0), (0x95, 0, 0))
    try:
        os.close(sys.link_create(program, 0, AttachType.TCX_INGRESS))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
    finally:
        os.close(program)


def _device(kind: str) -> None:
    """EOPNOTSUPP if the kernel has no such device, by asking for one with no queues, which none may be."""
    inner = _attribute(_IFLA_INFO_KIND, kind.encode())
    queues = _attribute(_IFLA_NUM_TX_QUEUES, struct.pack("=I", 0))
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + queues + _attribute(_IFLA_LINKINFO, inner)
    request, acknowledge, exclusive, create = 1, 4, 0x200, 0x400
    flags = request | acknowledge | exclusive | create
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.bind((0, 0))
        netlink.send(struct.pack("=IHHII", 16 + len(body), _RTM_NEWLINK, flags, 1, 0) + body)
        answer = netlink.recv(4096)
    number = -struct.unpack_from("=i", answer, 16)[0]
    if number in {errno.EOPNOTSUPP, errno.EPERM}:
        raise OSError(number, os.strerror(number))


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
