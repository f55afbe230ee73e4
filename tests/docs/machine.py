# SPDX-License-Identifier: Apache-2.0
"""A machine for one page: the same kernel, but run directory, BPF file system and cgroups of its own, and one shell.

What a page does is not seen outside, and what is outside (labs of other tests, an agent of the host) not by the page.
With the last process all of it is gone.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

from ciliumpy.lab import cgroups
from ciliumpy.lab.machine import BPFFS, cgroup_root

ROOT = Path(__file__).parents[2]
_END = "\x01"
_PROGRAMS = ("src", "tests", "docs", "completions")


class Machine:
    """`run` gives one command to the shell and returns what it printed, both streams as they came."""

    def __init__(self, name: str, folder: Path) -> None:
        self.cgroup = cgroup_root() / name
        self.folder = folder
        for each in _PROGRAMS:
            (folder / each).symlink_to(ROOT / each)
        cgroups.make(self.cgroup)
        root = shlex.quote(str(cgroup_root()))
        # In a chroot `/` may be no mount: then what is above it has been made private by who made the chroot.
        # The cgroup namespace's root is where the process is when it enters it.
        set_up = (
            f"mount --make-rprivate / 2>/dev/null; mount -t tmpfs tmpfs /run && mount -t bpf bpf {BPFFS}"
            f" && umount --lazy {root} && mount -t cgroup2 cgroup2 {root} && exec bash --norc -s"
        )
        alone = "unshare --mount --propagation unchanged --cgroup"
        enter = f"echo 0 > {shlex.quote(str(self.cgroup))}/cgroup.procs && exec {alone} sh -c '{set_up}'"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CILIUMPY_", "CNI_", "PYTEST"))}
        self.shell = subprocess.Popen(
            ["sh", "-c", enter],
            cwd=folder,
            env={**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            # What the recipe of `make demo` does when all is installed and built.
            self.run(f'make() {{ test "$*" = demo && (cd {shlex.quote(str(ROOT))} && ciliumpy lab demo); }}')
        except AssertionError:
            self.close()
            raise

    def run(self, command: str, timeout_s: float = 60.0) -> list[str]:
        """Return the lines that the command printed. AssertionError if it does not end in time."""
        script = self.folder / ".command"
        script.write_text(f"{command}\n")
        assert self.shell.stdin
        assert self.shell.stdout
        self.shell.stdin.write(f". ./.command </dev/null; printf '{_END}'\n".encode())
        self.shell.stdin.flush()
        seen = b""
        deadline = time.monotonic() + timeout_s
        while not seen.endswith(_END.encode()):
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.shell.stdout], [], [], left)[0]:
                raise AssertionError(f"`{command}` has not ended after {timeout_s:g} s; so far:\n{seen.decode()}")
            part = os.read(self.shell.stdout.fileno(), 65536)
            if not part:
                raise AssertionError(f"the shell has ended at `{command}`:\n{seen.decode()}")
            seen += part
        return seen.decode(errors="replace").removesuffix(_END).splitlines()

    def close(self) -> None:
        cgroups.remove(self.cgroup)
        for stream in (self.shell.stdin, self.shell.stdout):
            if stream is not None:
                stream.close()
        self.shell.wait()
