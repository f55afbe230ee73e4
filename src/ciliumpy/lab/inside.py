# SPDX-License-Identifier: Apache-2.0
"""`python -m ciliumpy.lab.inside MODULE PLACE`: runs a module's `main` in a pod or in a network namespace of the lab.

The module is loaded first: a pod need not see the files of this package. PLACE is JSON: {"cgroup", "pid"} of a pod's
first process, or {"cgroup", "netns"}. Standard input and output are the caller's; who closes the input ends it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciliumpy.lab import cgroups, privileges
from ciliumpy.lab.sandbox import NAMESPACES
from ciliumpy.net import libc, netns

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def main() -> None:
    run: Callable[[], None] = import_module(sys.argv[1]).main
    place: dict[str, Any] = json.loads(sys.argv[2])
    privileges.close_to_others()
    cgroups.enter(Path(place["cgroup"]))
    if "pid" not in place:
        with_namespace = netns.open_path(Path(place["netns"]))
        libc.setns(with_namespace, libc.CLONE_NEWNET)
        _be(run)
    libc.setns(os.pidfd_open(place["pid"]), NAMESPACES | libc.CLONE_NEWNET)
    child = os.fork()  # the first that is in the pod's PID namespace
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _be(run)
    # The child alone holds the pipes: who reads them sees it end.
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    _, status = os.waitpid(child, 0)
    os._exit(max(os.waitstatus_to_exitcode(status), 0))


def _be(run: Callable[[], None]) -> None:
    os.chdir("/")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    privileges.drop()
    run()
    os._exit(0)


if __name__ == "__main__":
    main()
