# SPDX-License-Identifier: Apache-2.0
"""A node for packet tests: the real object, its tables written by hand, packets put into its programs one by one.

`ONE` to `THREE` are local pods, `FAR` is a pod of the node 192.168.9.2, `WORLD` is anybody. Every test has a fresh one.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ciliumpy.bpf.names import NARROW, WIDE
from ciliumpy.bpf.ring import RingGroup
from tests.bpf import packets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bpf.pool import Pool

OK, SHOT, REDIRECT = 0, 2, 7
NEXT = -1  # TC_ACT_UNSPEC, TCX_NEXT: on native devices, whose other programs shall see it too
HOST, WORLD4, WORLD6, REMOTE_NODE = 1, 9, 10, 6
READY, ENFORCE_INGRESS, ENFORCE_EGRESS, SAME_NETNS, AUDIT = 1, 2, 4, 8, 32
TUNNEL, OWN, NODE = 1, 2, 4
INGRESS, EGRESS = 0, 1
DENY, ALLOW, REDIRECT_TO_PROXY, PASS = 1, 2, 3, 4
EVERYBODY = 1
FLOW, DROP, AGGREGATE, CLOSE = 1, 2, 3, 4
NOT_ASKED, NOT_ENFORCED, ALLOWED, DENIED, DEFAULT_DENIED, REDIRECTED, REPLY, NO_POLICY = range(8)
AUDITED = 0x80
TO_LOCAL, TO_OVERLAY, TO_HOST, TO_NETWORK = 8, 16, 32, 64
IS_IPV6, IS_REPLY, REPLY_UNKNOWN = 1, 2, 4

ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
OWN_NODE = {4: "192.168.9.1", 6: "fd00:9::1"}
OWN_CIDR = {4: "10.244.1.0/24", 6: "fd00:10:244:1::/64"}
FAR_NODE = {4: "192.168.9.2", 6: "fd00:9::2"}
FAR_OUTER = "192.168.9.2"
FAR_CIDR = {4: "10.244.2.0/24", 6: "fd00:10:244:2::/64"}
FAR = {4: "10.244.2.7", 6: "fd00:10:244:2::7"}
WORLD = {4: "198.51.100.8", 6: "2001:db8::8"}
NOWHERE = {4: "203.0.113.1", 6: "2001:db8:dead::1"}  # the routes say unreachable
GATEWAY_MAC = "02:00:00:00:00:fe"
NODE_MAC = "02:00:00:00:00:aa"  # of the native device
FAR_IDENTITY = 3000
HOST_SLOT = 4095
SKB_BYTES, GSO_SIZE = 192, 176  # of struct __sk_buff
CONNTRACK = {4: ("cp_ct4_v1", "cp_ctu4_v1"), 6: ("cp_ct6_v1", "cp_ctu6_v1")}  # the main map, that of unanswered flows


def address(text: str) -> bytes:
    raw = packets.packed(text)
    return raw if len(raw) == 16 else b"\0" * 10 + b"\xff\xff" + raw


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


@dataclass
class Pod:
    slot: int
    ifindex: int
    identity: int
    generation: int = 1
    flags: int = READY
    policy_set: int = 0
    netns: int = 0  # 1 + the node's number for its namespace

    @property
    def mac(self) -> str:
        return f"02:00:00:00:01:{self.slot & 0xFF:02x}"

    @property
    def host_mac(self) -> str:
        return f"02:00:00:00:02:{self.slot & 0xFF:02x}"

    @property
    def ip(self) -> dict[int, str]:
        if self.slot == HOST_SLOT:
            return OWN_NODE
        return {4: f"10.244.1.{10 + self.slot}", 6: f"fd00:10:244:1::{10 + self.slot:x}"}


@dataclass
class Level:
    """`bits` of selectors, or everybody. A pass goes on with level `target`."""

    verdict: int = ALLOW
    bits: tuple[int, ...] = ()
    everybody: bool = False
    target: int = 0
    stat: int = 0


@dataclass
class Result:
    verdict: int
    frame: bytes
    events: np.ndarray[Any, np.dtype[Any]]
    ctx: bytes = b""
    seen: list[int] = field(default_factory=list)

    @property
    def read(self) -> packets.Read:
        return packets.Read(self.frame)

    @property
    def passed(self) -> bool:
        return self.verdict in {OK, NEXT, REDIRECT}

    @property
    def reason(self) -> int:
        """Of the one drop event; 0 if there is none."""
        drops = [int(one["reason"]) for one in self.events if one["type"] == DROP]
        assert len(drops) <= 1
        return drops[0] if drops else 0

    @property
    def packet_type(self) -> int:
        """What it was handed over with; only of the test object overlay_test."""
        return struct.unpack_from("<I", self.ctx, 64)[0] - 1

    @property
    def mark(self) -> int:
        return int(struct.unpack_from("<I", self.ctx, 8)[0])

    @property
    def types(self) -> list[int]:
        return [int(one["type"]) for one in self.events]


class Node:
    """Owns the object that it took from the pool; `close()` gives it back."""

    def __init__(
        self, pool: Pool, path: Path, devices: dict[str, int], *, sizes: dict[str, int] | None = None, **rodata: int
    ) -> None:
        self.devices = devices
        fixed: dict[str, int | bytes] = {
            "cfg_vxlan_ifindex": devices["vxlan"],
            "cfg_host_ifindex": devices["host"],
            "cfg_netdev_ifindex": devices["eth0"],
            "cfg_router_ip4": address(ROUTER[4]),
            "cfg_router_ip6": address(ROUTER[6]),
            "cfg_node_ip4": address(OWN_NODE[4]),
            "cfg_node_ip6": address(OWN_NODE[6]),
        }
        small = {name: 1024 for names in CONNTRACK.values() for name in names} | {"cp_counter_v3": 1024}
        self._options: dict[str, Any] = {
            "rodata": {**fixed, "cfg_counters": 1024, **rodata},
            "max_entries": {**small, **(sizes or {})},
            "ring_size": 1 << 16,
        }
        self._pool, self._path = pool, path
        self.object = pool.take(path, **self._options)
        self.maps = self.object.maps
        self.width = NARROW if NARROW.vectors in self.maps else WIDE
        self.rings = RingGroup(self.maps["cp_events_v1"], self.object.btf.dtype("event"))
        self._classes = itertools.count(1)
        self._sets = itertools.count(1)
        self.bump()
        self.maps["cp_epepoch_v1"].update(u32(0), struct.pack("<Q", 7))  # an agent bumps all, of slot 0 nobody asks
        self.pods = [Pod(slot, devices[f"lxc{slot}"], 1000 * slot) for slot in (1, 2, 3)]
        self.itself = Pod(HOST_SLOT, 0, HOST)  # where policies for it are in force
        for pod in self.pods:
            self.plug(pod)
        for version in (4, 6):
            self.ipcache(FAR[version], FAR_IDENTITY, flags=TUNNEL, tunnel=FAR_OUTER)
            self.ipcache(FAR_CIDR[version], WORLD4 if version == 4 else WORLD6, flags=TUNNEL, tunnel=FAR_OUTER)
            self.ipcache(OWN_NODE[version], HOST, flags=OWN)
            self.ipcache(ROUTER[version], HOST, flags=OWN)
            self.ipcache(FAR_NODE[version], REMOTE_NODE, flags=NODE)

    def close(self) -> None:
        self.rings.close()
        self._pool.give_back(self.object, self._path, **self._options)

    # ---- tables ------------------------------------------------------------------------------------------------------

    def plug(self, pod: Pod, *, families: tuple[int, ...] = (4, 6)) -> None:
        if pod.slot == HOST_SLOT:
            families = ()
        row = np.zeros((), self.maps["cp_endpoint_v1"].value_dtype)
        row["ifindex"], row["generation"], row["identity"] = pod.ifindex, pod.generation, pod.identity
        row["policy_set"], row["flags"] = pod.policy_set, pod.flags
        self.maps["cp_podnet_v1"].update(u32(pod.slot), u32(pod.netns))
        row["mac"], row["host_mac"] = list(packets.mac(pod.mac)), list(packets.mac(pod.host_mac))
        raw = bytearray(row.tobytes())
        for version in families:
            at = row.dtype.fields[f"ip{version}"][1]
            raw[at : at + 16] = address(pod.ip[version])
        self.maps["cp_endpoint_v1"].update(u32(pod.slot), bytes(raw))
        for version in families:
            self.maps["cp_local_v1"].update(address(pod.ip[version]), u32(pod.slot) + u32(pod.generation))
            self.ipcache(pod.ip[version], pod.identity)
        if pod.ifindex:
            self.maps["cp_link_v1"].update(u32(pod.ifindex), u32(pod.slot))
        self.bump(pod)

    def bump(self, pod: Pod | None = None) -> None:
        epochs = self.maps["cp_epepoch_v1" if pod else "cp_epoch_v1"]
        key = u32(pod.slot if pod else 0)
        epochs.update(key, struct.pack("<Q", int(epochs.lookup(key)) + 1))

    def ipcache(self, where: str, identity: int, *, flags: int = 0, tunnel: str | None = None) -> None:
        value = struct.pack("<II", identity, flags) + (address(tunnel) if tunnel else bytes(16))
        if "/" in where:
            base, length = where.split("/")
            prefix = int(length) + (96 if packets.family(base) == 4 else 0)
            self.maps["cp_ipcidr_v1"].update(u32(prefix) + address(base), value)
        else:
            self.maps["cp_iphost_v1"].update(address(where), value)

    def vector(self, identity: int, *bits: int) -> None:
        words = np.zeros(self.width.bits // 64, "<u8")
        for bit in bits:
            words[bit // 64] |= np.uint64(1 << bit % 64)
        self.maps[self.width.vectors].update(u32(identity), words.tobytes())

    def open_to_host(self) -> int:
        """A class as compiled policy has it where nothing else is allowed: the node reaches its own pods."""
        self.vector(HOST, 1000)
        return self.port_class(Level(bits=(1000,)))

    def port_class(self, *levels: Level) -> int:
        row = np.zeros((), self.maps[self.width.classes].value_dtype)
        for at, level in enumerate(levels):
            row["level"][at]["verdict"] = level.verdict
            row["level"][at]["proxy_port"], row["level"][at]["stat"] = level.target, level.stat
            row["level"][at]["flags"] = EVERYBODY if level.everybody else 0
            for bit in level.bits:
                row["level"][at]["mask"][bit // 64] |= np.uint64(1 << bit % 64)
        number = next(self._classes)
        self.maps[self.width.classes].update(u32(number), row.tobytes())
        return number

    def policy(
        self,
        pod: Pod,
        direction: int,
        ports: dict[tuple[int, int], int] | None = None,
        *,
        ranges: dict[int, list[tuple[int, int, int]]] | None = None,
        default: int = 0,
        denied_stat: int = 0,
    ) -> None:
        """A new set for `pod`, enforced: {(protocol, port): class}, {protocol: [(first, last, class)]}."""
        number, families = next(self._sets), {packets.TCP: 1, packets.UDP: 2, packets.ICMP: 8, packets.ICMPV6: 16}
        row = np.zeros((), self.maps["cp_set_v2"].value_dtype)
        row["default_class"][direction], row["denied_stat"][direction] = default, denied_stat
        row["has_exact"][direction] = len(ports or {})
        row["has_ranges"][direction] = sum(families[protocol] for protocol in ranges or {})
        for (protocol, port), number_of_class in (ports or {}).items():
            key = struct.pack("<IBBH", number, direction, protocol, port)
            self.maps["cp_port_v1"].update(key, u32(number_of_class))
        for protocol, parts in (ranges or {}).items():
            value = np.zeros((), self.maps["cp_range_v1"].value_dtype)
            value["count"] = len(parts)
            for at, part in enumerate(parts):
                value["range"][at] = part
            self.maps["cp_range_v1"].update(struct.pack("<IBBH", number, direction, protocol, 0), value.tobytes())
        self.maps["cp_set_v2"].update(u32(number), row.tobytes())
        pod.policy_set = number
        pod.flags |= ENFORCE_INGRESS if direction == INGRESS else ENFORCE_EGRESS
        self.plug(pod)

    def free(self, pod: Pod) -> None:
        """No policy selects it any more."""
        pod.flags &= ~(ENFORCE_INGRESS | ENFORCE_EGRESS)
        self.plug(pod)

    def fault(self, kind: int = 0, *, clock: int = 0, row: bytes = bytes(192)) -> None:
        """What the test object is to do in the middle of the next packet."""
        self.maps["cp_fault_v1"].update(u32(0), u32(kind) + u32(clock) + row)

    # ---- packets -----------------------------------------------------------------------------------------------------

    def run(
        self,
        hook: str,
        frame: bytes,
        ifindex: int,
        *,
        cb: tuple[int, ...] = (),
        mark: int = 0,
        ingress: int = 0,
        gso_size: int = 0,
    ) -> Result:
        ctx = bytearray(SKB_BYTES)
        struct.pack_into("<I", ctx, GSO_SIZE, gso_size)
        struct.pack_into("<I", ctx, 8, mark)
        struct.pack_into("<II", ctx, 36, ingress, ifindex)
        struct.pack_into(f"<{len(cb)}I", ctx, 48, *cb)
        done = self.object.programs[hook].test_run(frame, ctx=bytes(ctx))
        return Result(done.retval, done.data, self.rings.consume(), done.ctx)

    def pod(self, pod: Pod, payload: bytes, *, mark: int = 0) -> Result:
        """An IP packet that the pod sends."""
        return self.run("pod", self.framed(payload, pod.host_mac, pod.mac), pod.ifindex, mark=mark)

    def host(self, payload: bytes, *, ingress: int = 0) -> Result:
        """What the stack sends; with the device that it had it from, what it forwards."""
        return self.run("host", self.framed(payload, GATEWAY_MAC, GATEWAY_MAC), self.devices["host"], ingress=ingress)

    def netdev(self, payload: bytes, *, to: str = NODE_MAC) -> Result:
        return self.run("netdev", self.framed(payload, to, GATEWAY_MAC), self.devices["eth0"])

    def uplink(self, payload: bytes, *, ingress: int = 0) -> Result:
        """What leaves by the native device: the host's own, or what the stack had from the device `ingress`."""
        return self.run("uplink", self.framed(payload, GATEWAY_MAC, NODE_MAC), self.devices["eth0"], ingress=ingress)

    def overlay(self, payload: bytes, *, vni: int = FAR_IDENTITY, outer: str = FAR_OUTER) -> Result:
        """Only with the test object, which takes the tunnel key from cb."""
        frame = self.framed(payload, "02:00:00:00:00:01", "02:00:00:00:00:02")
        raw = packets.packed(outer)
        first, last = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[-4:], "little")
        cb = (vni, 0, first, last) if len(raw) == 16 else (vni, first)
        return self.run("overlay", frame, self.devices["vxlan"], cb=cb)

    @staticmethod
    def framed(payload: bytes, dst: str, src: str) -> bytes:
        return packets.eth(dst, src, packets.ETH_IPV6 if payload[0] >> 4 == 6 else packets.ETH_IPV4, payload)

    # ---- what came of it ---------------------------------------------------------------------------------------------

    def rows(self, version: int) -> tuple[np.ndarray[Any, np.dtype[Any]], np.ndarray[Any, np.dtype[Any]]]:
        """Keys and values of both conntrack maps."""
        found = zip(*(self.maps[name].items() for name in CONNTRACK[version]), strict=True)
        keys, values = (np.frombuffer(b"".join(p.tobytes() for p in parts), parts[0].dtype) for parts in found)
        return keys, values.copy()

    def forget(self, version: int) -> None:
        """No flow has a row any more."""
        for name in CONNTRACK[version]:
            keys, _ = self.maps[name].items()
            for key in keys:
                self.maps[name].delete(key.tobytes())

    def row(self, version: int) -> Any:
        """The only conntrack row."""
        _, values = self.rows(version)
        assert len(values) == 1
        return values[0]

    def age(self, version: int, by: int, *, clock: int | None = None) -> None:
        """Let the only row expire `by` units of 256 jiffies before `clock` (now)."""
        (key,), (row,) = self.rows(version)
        row["expires"] = ((self.now() if clock is None else clock) - by) & 0xFFFFFFFF
        main, unanswered = (self.maps[name] for name in CONNTRACK[version])
        (main if main.lookup_bytes(key.tobytes()) else unanswered).update(key.tobytes(), row.tobytes())

    def metric(self, reason: int, direction: int) -> int:
        """Packets counted."""
        return int(self.maps["cp_metrics_v1"].lookup(u32(reason * 2 + direction))["packets"].sum())

    def counted(self, stat: int) -> tuple[int, int]:
        """Packets and bytes of a rule: what has been added up, and what stands in counters of living flows."""
        summed = self.maps["cp_rulestat_v2"].lookup(u32(stat))
        packets_, bytes_ = (int(summed[name].sum()) for name in ("packets", "bytes"))
        _, live = self.maps["cp_counter_v3"].items()
        for leg in (INGRESS, EGRESS):
            ours = live["stat"][..., leg] == stat
            packets_ += int(live["packets"][ours][..., 0].sum())
            bytes_ += int(live["bytes"][ours][..., 0].sum())
        return packets_ & ((1 << 64) - 1), bytes_ & ((1 << 64) - 1)

    def now(self) -> int:
        return self.run("clock", bytes(64), self.devices["eth0"]).verdict & 0xFFFFFFFF
