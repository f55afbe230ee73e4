# SPDX-License-Identifier: Apache-2.0
"""Whose pair an interface of another plugin is: numbers of devices are only unique within a namespace."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from ciliumpy.endpoints.attachment import CannotTakeOverError
from ciliumpy.endpoints.plug import Gateway, Plug
from ciliumpy.net import netns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, tuple[Path, int]]]:
    made = {}
    try:
        for name in ("node", "pod", "another", "elsewhere"):
            made[name] = (tmp_path / name, netns.new_namespace(tmp_path / name))
        yield made
    finally:
        for path, fd in made.values():
            os.close(fd)
            netns.remove_namespace(path)


def pair(near: Path, name: str, number: int, far: Path, far_name: str, far_number: int) -> None:
    subprocess.run(
        f"nsenter --net={near} ip link add {name} index {number} type veth"
        f" peer name {far_name} index {far_number} netns {far}".split(),
        check=True,
    )


def test_a_device_that_happens_to_have_the_number_is_not_taken_over(places: dict[str, tuple[Path, int]]) -> None:
    (node, node_fd), (pod, pod_fd) = places["node"], places["pod"]
    plug = Plug(Gateway("", "", 1450))
    pair(node, "strange", 50, places["another"][0], "x", 60)
    pair(pod, "eth0", 60, places["elsewhere"][0], "y", 50)
    with pytest.raises(CannotTakeOverError, match="no veth device with its other end on this node"):
        netns.run_in(node_fd, plug.find, "eth0", pod_fd)
    pair(pod, "eth1", 61, node, "ours", 51)
    found = netns.run_in(node_fd, plug.find, "eth1", pod_fd)
    assert (found.host_interface, found.ifindex, found.peer_ifindex) == ("ours", 51, 61)
