# SPDX-License-Identifier: Apache-2.0
"""The loaded datapath: one object, its pinned maps, and its programs on devices.

Layout below the bpffs folder: `maps/<map>`, `links/<hook>-<device>` (with clsact there are no links). A restart finds
both, keeps what the maps hold and swaps each program by one atomic update.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ciliumpy.bpf import programs
from ciliumpy.bpf.names import CONNTRACK_MAPS
from ciliumpy.datapath import encode, hooks
from ciliumpy.datapath.company import Hook, Watch, look
from ciliumpy.datapath.devices import HOST_DEVICE, TUNNEL_DEVICE, Devices
from ciliumpy.datapath.epochs import Epochs
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import links, sysctl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ciliumpy.bpf.maps import Map

_log = logging.getLogger(__name__)

OBJECTS = Path(programs.__file__).parent / "objects"
REPORT_SECONDS = 5  # a living flow is told of so often, as in Cilium's monitor aggregation
FRAGMENT_SECONDS = 30  # as long as a receiver waits for the rest of a datagram
CLOCK_MONOTONIC_COARSE = 6
TICK_SHIFT = 8  # conntrack counts in jiffies >> 8
NODE_HOOKS = ("host", "overlay", "netdev")


class Timeouts(NamedTuple):
    """Seconds that a conntrack row lives: half-open TCP, TCP, others, both ends closing."""

    tcp_syn: int
    tcp: int
    other: int
    tcp_fin: int


class DropLimit(NamedTuple):
    """How many events the limit lets through on each CPU; the rest is counted. `per_second` 0: all of them."""

    per_second: int
    burst: int


class Settings(NamedTuple):
    """What the programs are told as constants."""

    devices: Devices
    routers: tuple[str, ...]  # the gateway that pods see, a family each
    tunnel_port: int
    ipv4: bool
    ipv6: bool
    timeouts: Timeouts
    drop_limit: DropLimit
    map_sizes: Mapping[str, int]
    ring_bytes: int = programs.RING_BYTES
    attach: Literal["auto", "tcx", "clsact"] = "auto"
    objects: Path = OBJECTS


class Datapath:
    """Owns descriptors; closing it leaves programs, maps and links in place."""

    def __init__(self, collection: programs.Collection, closed: programs.Collection, on: hooks.Hooks) -> None:
        self._collection = collection
        self._closed = closed
        self.hooks = on
        self.maps: dict[str, Map] = collection.maps
        self.event_dtype = collection.btf.dtype("event")
        self.epochs = Epochs(collection.maps)
        self.pods: dict[str, int] = {}  # device -> ifindex, of the pods whose program is attached
        self._own: dict[str, tuple[str, int]] = {}  # hook -> device, ifindex, of the node's own
        self.watch = Watch(on.kind, self._on_devices, self._put_back)

    def attach_node(self, devices: Devices) -> None:
        """Attach, or swap, the programs of the node's own devices."""
        names = {"host": HOST_DEVICE, "overlay": TUNNEL_DEVICE, "netdev": devices.underlay.name}
        indexes = {"host": devices.host, "overlay": devices.overlay, "netdev": devices.underlay.ifindex}
        for hook in NODE_HOOKS:
            self.hooks.attach(hook, self._collection.programs[hook], names[hook], indexes[hook])
            self._own[hook] = names[hook], indexes[hook]
            for device in self.hooks.attached(hook) - {names[hook]}:
                self.hooks.detach(hook, device)

    def prepare_pod_device(self, device: str, ifindex: int) -> int:
        """Close the device to all that the program on it does not decide: a filter, and forwarding off.

        Return the node's number for the namespace of its other end, by which the programs find the pod's sockets.
        """
        sysctl.prepare_pod_host_side(device)
        self.hooks.close_device(ifindex, self._closed.programs["closed"])
        return links.need(ifindex).peer_netns

    def attach_pod(self, device: str, ifindex: int) -> None:
        """Attach, or swap, the program of a pod. Idempotent."""
        if self.pods.get(device) != ifindex:
            self.hooks.attach("pod", self._collection.programs["pod"], device, ifindex)
            self.pods[device] = ifindex

    def open_pod_device(self, ifindex: int) -> None:
        links.set_up(ifindex)

    def detach_pod(self, device: str) -> None:
        """Remove a pod's program; one that is gone is no error. What then comes from the device meets the filter."""
        self.pods.pop(device, None)
        self.hooks.detach("pod", device)

    def attached_pods(self) -> set[str]:
        """Return the devices that have a pod's program."""
        return self.hooks.attached("pod")

    def pod_faults(self, device: str, ifindex: int) -> list[str]:
        """Tell what is wrong with the programs on a pod's device; empty: nothing."""
        return list(look(self.hooks.kind, Hook("pod", device, ifindex, self._collection.programs["pod"].id)).faults)

    @property
    def attached(self) -> int:
        """How many programs are attached: the node's own, and one a pod."""
        return len(NODE_HOOKS) + len(self.pods)

    def held_back(self) -> int:
        """Return how many drops the rate limit has not reported."""
        _, values = self.maps["cp_evstate_v1"].items()
        return int(values["held_back"].sum())

    def flush_conntrack(self) -> None:
        for name in CONNTRACK_MAPS:
            map_ = self.maps[name]
            keys, _ = map_.items()
            if len(keys):
                map_.delete_batch(keys)

    def now(self) -> int:
        """Return the conntrack clock: jiffies >> 8, 32 bits."""
        return self._collection.programs["clock"].test_run(bytes(64)).retval & 0xFFFFFFFF

    def close(self) -> None:
        self._collection.close()
        self._closed.close()

    def _on_devices(self) -> list[Hook]:
        numbers = {hook: program.id for hook, program in self._collection.programs.items()}
        own = [Hook(hook, device, ifindex, numbers[hook]) for hook, (device, ifindex) in self._own.items()]
        return own + [Hook("pod", device, ifindex, numbers["pod"]) for device, ifindex in sorted(self.pods.items())]

    def _put_back(self, at: Hook) -> bool:
        """Attach again what somebody has taken away; False if there is nothing to attach it to."""
        if at.hook == "pod" and self.pods.get(at.device) != at.ifindex:
            return False
        try:
            if at.hook == "pod":
                self.hooks.close_device(at.ifindex, self._closed.programs["closed"])
            self.hooks.attach(at.hook, self._collection.programs[at.hook], at.device, at.ifindex)
        except CiliumpyError as error:
            _log.debug("%s of %s cannot be put back: %s", at.hook, at.device, error.message)
            return False
        _log.warning("program %s of %s was gone, and is back", at.hook, at.device)
        return True


def load(settings: Settings, folder: Path) -> Datapath:
    """Load the objects, with the maps pinned below `folder` reused.

    Conntrack rows are dropped if the epochs they were made under are lost.
    """
    closed = programs.load_object(settings.objects / "closed.o")
    try:
        collection = programs.load_object(
            settings.objects / "datapath.o",
            rodata=_constants(settings, tick_rate()),
            max_entries=settings.map_sizes,
            pin_dir=folder / "maps",
            ring_size=settings.ring_bytes,
        )
    except BaseException:
        closed.close()
        raise
    datapath = Datapath(collection, closed, hooks.Hooks(hooks.choose(settings.attach), folder / "links"))
    if datapath.epochs.is_fresh():
        datapath.flush_conntrack()
        datapath.epochs.bump_all()
    return datapath


def _constants(settings: Settings, hz: int) -> dict[str, int | bytes]:
    def ticks(seconds: int) -> int:
        return max(1, -(-seconds * hz // (1 << TICK_SHIFT)))

    def one(addresses: tuple[str, ...], *, v6: bool) -> bytes:
        return encode.address(next((a for a in addresses if (":" in a) == v6), ""))

    devices, times = settings.devices, settings.timeouts
    return {
        "cfg_vxlan_ifindex": devices.overlay,
        "cfg_host_ifindex": devices.host,
        "cfg_netdev_ifindex": devices.underlay.ifindex,
        "cfg_pod_mtu": devices.underlay.pod_mtu,
        "cfg_router_ip4": one(settings.routers, v6=False),
        "cfg_router_ip6": one(settings.routers, v6=True),
        "cfg_node_ip4": encode.address(devices.underlay.own_address(4)),
        "cfg_node_ip6": encode.address(devices.underlay.own_address(6)),
        "cfg_tunnel_port": settings.tunnel_port,
        "cfg_ct_timeout_syn": ticks(times.tcp_syn),
        "cfg_ct_timeout_tcp": ticks(times.tcp),
        "cfg_ct_timeout_any": ticks(times.other),
        "cfg_ct_timeout_fin": ticks(times.tcp_fin),
        "cfg_event_rate": settings.drop_limit.per_second,
        "cfg_event_burst": settings.drop_limit.burst,
        "cfg_fragment_timeout": ticks(FRAGMENT_SECONDS),
        "cfg_report_interval": ticks(REPORT_SECONDS),
        "cfg_ipv4": int(settings.ipv4),
        "cfg_ipv6": int(settings.ipv6),
    }


def tick_rate() -> int:
    """Return the kernel's HZ: the coarse clock moves by one tick."""
    return round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))
