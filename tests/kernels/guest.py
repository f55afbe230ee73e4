# SPDX-License-Identifier: Apache-2.0
"""A guest that boots a kernel under qemu in seconds and runs one command on the host's own files.

The host's files are its root, read-only; what it writes goes to memory and is gone afterwards. There is no shell, no
udev and no network card; see init.c for what there is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.bpf import build
from tests.kernels.kernels import UnavailableError

if TYPE_CHECKING:
    from tests.kernels.kernels import Kernel

INIT = Path(__file__).with_name("init.c")
QEMU = "qemu-system-x86_64"
MEGABYTES = 1024


class Run(NamedTuple):
    """`code` is the command's; None if the guest did not come so far (then `output` ends with its console).

    `began` tells whether the command had said anything.
    """

    code: int | None
    output: str
    began: bool = True


def run(
    kernel: Kernel,
    command: list[str],
    *,
    folder: Path,
    timeout_s: float,
    running: list[subprocess.Popen[str]] | None = None,
) -> Run:
    """Boot, run, power off. The command is not looked up: give its path. The machine is added to `running`.

    Emulated processors now and then fault while the kernel comes up, before anything of ours has run: one more boot.
    """
    found = _boot(kernel, command, folder, timeout_s, running)
    if found.code is None and "Kernel panic" in found.output and not found.began:
        return _boot(kernel, command, folder, timeout_s, running)
    return found


def _boot(
    kernel: Kernel,
    command: list[str],
    folder: Path,
    timeout_s: float,
    running: list[subprocess.Popen[str]] | None,
) -> Run:
    if not shutil.which(QEMU):
        raise UnavailableError(f"{QEMU} is not installed: apt-get install qemu-system-x86")
    with tempfile.TemporaryDirectory(prefix="cpt-guest-") as name:
        scratch = Path(name)
        (scratch / "initramfs").write_bytes(_initramfs(kernel, [str(folder), *command], scratch))
        console, output, code = (scratch / one for one in ("console", "output", "code"))
        arguments = [
            *("-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", str(MEGABYTES)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(kernel.image), "-initrd", str(scratch / "initramfs"), "-append", _command_line()),
            *("-serial", f"file:{console}"),
            *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root", "-device", "virtio-serial-pci"),
            *("-chardev", f"file,id=output,path={output}", "-device", "virtserialport,chardev=output,name=output"),
            *("-chardev", f"file,id=code,path={code}", "-device", "virtserialport,chardev=code,name=code"),
        ]
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", QEMU, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as machine:
            if running is not None:
                running.append(machine)
            try:
                _, complaints = machine.communicate(timeout=timeout_s)
                late = f"\nqemu: {complaints.strip()}" if machine.returncode else ""
            except subprocess.TimeoutExpired:
                late = f"\nnot done after {timeout_s:g} s"
            finally:
                machine.kill()
        said = output.read_text(errors="replace") if output.exists() else ""
        ended = code.read_text().strip() if code.exists() else ""
        if ended:
            return Run(int(ended), said)
        tail = console.read_text(errors="replace")[-3000:] if console.exists() else ""
        return Run(None, f"{said}{late}\n{tail}", began=bool(said))


def _command_line() -> str:
    """Without the clock's frequency a boot under load may take it for ten times what it is."""
    match = re.search(r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    clock = f" tsc_early_khz={round(float(match[1]) * 1000)}" if match else ""
    return f"console=ttyS0 loglevel=3 panic=-1 oops=panic nokaslr mitigations=off audit=0 net.ifnames=0{clock}"


def _initramfs(kernel: Kernel, job: list[str], scratch: Path) -> bytes:
    init = scratch / "init"
    command = [build.find_clang(), "-static", "-O2", "-Wall", "-Wextra", "-Werror", INIT, "-o", init]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"cannot compile {INIT.name}: {done.stderr.strip()[-400:]}")
    files = {
        "init": (0o100755, init.read_bytes()),
        "job": (0o100644, b"".join(word.encode() + b"\0" for word in job)),
        "modules": (0o040755, b""),
        "modules/order": (0o100644, "\n".join(kernel.modules).encode()),
    }
    files |= {f"modules/{name}": (0o100644, (kernel.folder / name).read_bytes()) for name in kernel.modules}
    files["dev"] = (0o040755, b"")
    return b"".join(_cpio(name, mode, data) for name, (mode, data) in files.items()) + _cpio("TRAILER!!!", 0, b"")


def _cpio(name: str, mode: int, data: bytes) -> bytes:
    """One file in the "newc" form."""
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
