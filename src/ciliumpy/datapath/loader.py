# SPDX-License-Identifier: Apache-2.0
"""The loaded datapath: one object, its pinned maps, and its programs on devices.

Layout below the bpffs folder: `maps/<map>`, `links/<hook>-<device>` (with clsact there are no links). A restart finds
both, keeps what the maps hold and swaps each program by one atomic update. The same goes for the programs of the wide
object; who leads them through that is width.py.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ciliumpy.bpf import programs
from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.names import CONNTRACK_MAPS, NARROW, WIDE, WIDTHS, Width
from ciliumpy.datapath import encode, hooks
from ciliumpy.datapath.company import Hook, Watch, look
from ciliumpy.datapath.devices import HOST_DEVICE, TUNNEL_DEVICE, Devices
from ciliumpy.datapath.epochs import Epochs
from ciliumpy.datapath.kernel import copy_widened
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import links, sysctl

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

OBJECTS = Path(programs.__file__).parent / "objects"
REPORT_SECONDS = 5  # a living flow is told of so often, as in Cilium's monitor aggregation
FRAGMENT_SECONDS = 30  # as long as a receiver waits for the rest of a datagram
CLOCK_MONOTONIC_COARSE = 6
TICK_SHIFT = 8  # conntrack counts in jiffies >> 8
NODE_HOOKS = ("host", "overlay", "netdev")
HOST_HOOKS = ("uplink",)  # only where policies for the node itself are in force


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
    host_firewall: bool = False


class Datapath:
    """Owns descriptors; closing it leaves programs, maps and links in place.

    `width` is that of the programs that are attached from now on.
    """

    def __init__(
        self, settings: Settings, folder: Path, loaded: programs.Collection, closed: programs.Collection, width: Width
    ) -> None:
        self._settings, self._pins = settings, folder / "maps"
        self._programs = loaded.programs
        self._closed = closed
        self._node_hooks = NODE_HOOKS + (HOST_HOOKS if settings.host_firewall else ())
        self.hooks = hooks.Hooks(hooks.choose(settings.attach), folder / "links")
        self.maps: dict[str, Map] = loaded.maps
        self.width = width
        self._wide: programs.Collection | None = None  # loaded, and on no device
        self.event_dtype = loaded.btf.dtype("event")
        self.epochs = Epochs(loaded.maps)
        self.pods: dict[str, int] = {}  # device -> ifindex, of the pods whose program is attached
        self._own: dict[str, tuple[str, int]] = {}  # hook -> device, ifindex, of the node's own
        self._attaching = threading.RLock()  # a swap goes over what is attached
        self.watch = Watch(self.hooks.kind, self._on_devices, self._put_back, self._attaching)

    def attach_node(self, devices: Devices) -> None:
        """Attach, or swap, the programs of the node's own devices."""
        native = devices.underlay.name, devices.underlay.ifindex
        places = {"host": (HOST_DEVICE, devices.host), "overlay": (TUNNEL_DEVICE, devices.overlay)}
        places |= {"netdev": native, "uplink": native}
        with self._attaching:
            # First what is no more: it would judge answers to what the others have ceased to follow.
            for hook in set(NODE_HOOKS + HOST_HOOKS) - set(self._node_hooks):
                for device in self.hooks.attached(hook):
                    self.hooks.detach(hook, device)
            for hook in self._node_hooks:
                device, ifindex = self._own[hook] = places[hook]
                self.hooks.attach(hook, self._programs[hook], device, ifindex)
                for other in self.hooks.attached(hook) - {device}:
                    self.hooks.detach(hook, other)

    def prepare_pod_device(self, device: str, ifindex: int) -> int:
        """Close the device to all that the program on it does not decide: a filter, and forwarding off.

        Return the node's number for the namespace of its other end, by which the programs find the pod's sockets.
        """
        sysctl.prepare_pod_host_side(device)
        self.hooks.close_device(ifindex, self._closed.programs["closed"])
        return links.need(ifindex).peer_netns

    def attach_pod(self, device: str, ifindex: int) -> None:
        """Attach, or swap, the program of a pod. Idempotent."""
        with self._attaching:
            if self.pods.get(device) != ifindex:
                self.hooks.attach("pod", self._programs["pod"], device, ifindex)
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
        with self._attaching:
            return list(look(self.hooks.kind, Hook("pod", device, ifindex, self._programs["pod"].id)).faults)

    @property
    def attached(self) -> int:
        """How many programs are attached: the node's own, and one a pod."""
        return len(self._node_hooks) + len(self.pods)

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
        return self._programs["clock"].test_run(bytes(64)).retval & 0xFFFFFFFF

    # ---- another width -----------------------------------------------------------------------------------------------

    @property
    def moving(self) -> tuple[str, ...]:
        """Return the names of the maps of another width: programs that ask them may be on devices."""
        return tuple(name for one in WIDTHS if one != self.width for name in one.maps if name in self.maps)

    def load_wide(self) -> None:
        """Load the wide programs. They are on no device, and their maps, in `maps` now, are empty. Idempotent."""
        if self.width != WIDE and self._wide is None:
            self._wide = _load(self._settings, self._pins, WIDE)
            self.maps |= {name: self._wide.maps.pop(name) for name in WIDE.maps}

    def swap(self) -> None:
        """See that every hook runs the program loaded last: one by one, each by an atomic replacement. Idempotent."""
        with self._attaching:
            if self._wide is not None:
                former, self._programs, self.width = self._programs, self._wide.programs, WIDE
                for program in former.values():
                    program.close()
                for map_ in self._wide.maps.values():
                    map_.close()
                self._wide = None
            for hook, (device, ifindex) in self._own.items():
                self.hooks.attach(hook, self._programs[hook], device, ifindex)
            # Also those that an agent before this one has attached.
            for device in sorted(self.hooks.attached("pod")):
                if (link := links.link(device)) is not None:
                    self.hooks.attach("pod", self._programs["pod"], device, link.ifindex)

    def unpin_former(self) -> None:
        """Remove the pins of the other width's maps, which no program asks any more."""
        for name in self.moving:  # classes first: while they are pinned, both maps are whole
            (self._pins / name).unlink(missing_ok=True)

    def forget_former(self) -> None:
        """Close those maps: nobody writes them any more."""
        for name in self.moving:
            self.maps.pop(name).close()

    def close(self) -> None:
        for program in self._programs.values():
            program.close()
        for map_ in self.maps.values():
            map_.close()
        if self._wide is not None:
            self._wide.close()
        self._closed.close()

    def _on_devices(self) -> list[Hook]:
        numbers = {hook: program.id for hook, program in self._programs.items()}
        own = [Hook(hook, device, ifindex, numbers[hook]) for hook, (device, ifindex) in self._own.items()]
        return own + [Hook("pod", device, ifindex, numbers["pod"]) for device, ifindex in sorted(self.pods.items())]

    def _put_back(self, at: Hook) -> bool:
        """Attach again what somebody has taken away; False if there is nothing to attach it to."""
        if at.hook == "pod" and self.pods.get(at.device) != at.ifindex:
            return False
        with self._attaching:
            try:
                if at.hook == "pod":
                    self.hooks.close_device(at.ifindex, self._closed.programs["closed"])
                self.hooks.attach(at.hook, self._programs[at.hook], at.device, at.ifindex)
            except CiliumpyError as error:
                _log.debug("%s of %s cannot be put back: %s", at.hook, at.device, error.message)
                return False
        _log.warning("program %s of %s was gone, and is back", at.hook, at.device)
        return True


def load(settings: Settings, folder: Path) -> Datapath:
    """Load the objects, with the maps pinned below `folder` reused.

    Conntrack rows are dropped if the epochs they were made under are lost. Who was wide starts wide; who was about to
    be goes on from where it was.
    """
    closed = programs.load_object(settings.objects / "closed.o")
    try:
        datapath = _load_width(settings, folder, closed)
    except BaseException:
        closed.close()
        raise
    if datapath.epochs.is_fresh():
        datapath.flush_conntrack()
        datapath.epochs.bump_all()
    return datapath


def _load_width(settings: Settings, folder: Path, closed: programs.Collection) -> Datapath:
    pins = folder / "maps"
    narrow, wide = ([name for name in one.maps if (pins / name).exists()] for one in WIDTHS)
    if not wide:
        return Datapath(settings, folder, _load(settings, pins, NARROW), closed, NARROW)
    if NARROW.classes not in narrow:  # they go first: what may be left of the narrow maps nobody asks
        for name in narrow:
            (pins / name).unlink()
        return Datapath(settings, folder, _load(settings, pins, WIDE), closed, WIDE)
    # An agent died on its way from one width to the other. The narrow maps are whole, and perhaps no program asks them.
    with contextlib.ExitStack() as opened:
        former = {name: opened.enter_context(Map.open_pinned(pins / name)) for name in (*narrow, *wide)}
        try:
            loaded = _load_copy(settings, pins, former)
        except CiliumpyError as error:
            _log.warning("the wide programs cannot be had, the narrow ones go on: %s", error.message)
            loaded = _load(settings, pins, NARROW)
        opened.pop_all()
    width = NARROW if NARROW.classes in loaded.maps else WIDE
    for name in former.keys() & loaded.maps.keys():
        former.pop(name).close()
    loaded.maps.update(former)
    return Datapath(settings, folder, loaded, closed, width)


def _load_copy(settings: Settings, pins: Path, former: Mapping[str, Map]) -> programs.Collection:
    """Load the wide programs with what the narrow maps hold."""
    loaded = _load(settings, pins, WIDE)
    try:
        for name, copy in zip(NARROW.maps, WIDE.maps, strict=True):
            copy_widened(former[name], loaded.maps[copy])
    except BaseException:
        loaded.close()
        raise
    return loaded


def _load(settings: Settings, pins: Path, width: Width) -> programs.Collection:
    others = {name for one in WIDTHS if one != width for name in one.maps}
    sizes = dict(settings.map_sizes)
    for one in WIDTHS:
        sizes |= {name: sizes[known] for name, known in zip(one.maps, NARROW.maps, strict=True) if known in sizes}
    return programs.load_object(
        settings.objects / f"{width.object}.o",
        rodata=_constants(settings, tick_rate()),
        max_entries={name: entries for name, entries in sizes.items() if name not in others},
        pin_dir=pins,
        ring_size=settings.ring_bytes,
    )


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
        "cfg_host_firewall": int(settings.host_firewall),
    }


def tick_rate() -> int:
    """Return the kernel's HZ: the coarse clock moves by one tick."""
    return round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))
