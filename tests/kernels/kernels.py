# SPDX-License-Identifier: Apache-2.0
"""Kernels of Debian packages, unpacked into a cache and never installed: an ELF kernel and the modules we need."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ciliumpy" / "kernels"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEPT_S = 14 * 86400  # how long a kernel serves before a newer one is looked for
ROOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
NET_MODULES = ("veth", "vxlan", "dummy", "bridge", "sch_ingress", "cls_bpf")
_ZSTD, _XZ = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"


class UnavailableError(Exception):
    """Why there is no such kernel here."""


class Series(NamedTuple):
    """A line of kernels and the suite of Debian that has it; `version` is empty for whatever is the newest there."""

    name: str
    version: str
    suite: str


SERIES = (
    Series("6.1-bookworm", "6.1", "bookworm"),
    Series("6.12-trixie", "6.12", "trixie"),
    Series("newest-sid", "", "sid"),
)


class Kernel(NamedTuple):
    """`image` is an ELF file, `modules` names files in `folder` in the order in which they are loaded."""

    release: str
    image: Path
    folder: Path
    modules: tuple[str, ...]


def fetch(series: Series) -> Kernel:
    """The newest kernel of a series, from the cache if one is there; an old one there does if apt has none to offer."""
    for needed in ("apt-get", "dpkg-deb", "zstd"):
        if not shutil.which(needed):
            raise UnavailableError(f"{needed} is not installed")
    home = CACHE / series.name
    stamp = home / "order"
    if not stamp.exists() or time.time() - stamp.stat().st_mtime > KEPT_S:
        try:
            _fetch(series, home)
        except UnavailableError:
            if not stamp.exists():
                raise
    return Kernel((home / "release").read_text(), home / "vmlinux", home, tuple(stamp.read_text().split()))


def _fetch(series: Series, home: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        options: list[str] = []
        package = _find(series, options) if series.version else None
        if package is None:
            options = _own_lists(series.suite, Path(scratch))
            package = _find(series, options)
        if package is None:
            raise UnavailableError(f"no package of Linux {series.name} in apt's lists")
        ready = _unpack(package, Path(scratch), options)
        if home.exists():
            home.rename(Path(scratch) / "old")
        ready.rename(home)


def _find(series: Series, options: list[str]) -> str | None:
    """The package that the series' meta package stands for."""
    for meta in (f"linux-image-{series.version}-amd64", "linux-image-amd64"):
        if match := re.search(rf"Depends: (linux-image-{re.escape(series.version)}[.\d]\S+)", _depends(meta, options)):
            return match[1]
    return None


def _depends(package: str, options: list[str]) -> str:
    command = ["apt-cache", *options, "depends", "--important", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _mirror() -> str:
    """Where this machine has its Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in said.splitlines():
        if line.rstrip("/").endswith("/debian"):
            return line.rstrip("/")
    raise UnavailableError("this machine has no Debian mirror")


def _own_lists(suite: str, scratch: Path) -> list[str]:
    """Options for apt with package lists of another suite: the machine's stay as they are."""
    lists, sources = scratch / "lists", scratch / "sources.list"
    (lists / "partial").mkdir(parents=True)
    sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    settings = {
        "Dir::State::lists": lists,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",  # a mirror may stand still; what it has is signed all the same
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(["apt-get", *options, "update"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"apt-get update for {suite} failed: {done.stderr.strip()[-200:]}")
    return options


def _unpack(package: str, scratch: Path, options: list[str]) -> Path:
    """Download what a kernel is of (newer ones are split), and make the folder that serves as its place."""
    release = package.removeprefix("linux-image-")
    parts = [
        part for kind in ("binary", "modules") if (part := f"linux-{kind}-{release}") in _depends(package, options)
    ]
    command = ["apt-get", *options, "-o", "APT::Sandbox::User=root", "download", *(parts or [package])]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    archives = list(scratch.glob("*.deb"))
    if done.returncode or not archives:
        raise UnavailableError(f"cannot download {package}: {done.stderr.strip()[-200:]}")
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", archive, scratch / "tree"], check=True)
        archive.unlink()
    ready = scratch / "ready"
    ready.mkdir()
    image = next(path for path in (scratch / "tree").rglob("vmlinuz*") if path.is_file())
    (ready / "vmlinux").write_bytes(_elf(image.read_bytes()))
    tree = next(path for path in (scratch / "tree/lib/modules", scratch / "tree/usr/lib/modules") if path.exists())
    (ready / "release").write_text(release)
    (ready / "order").write_text("\n".join(_copy_modules(tree / release, ready)) + "\n")
    return ready


def _elf(image: bytes) -> bytes:
    """Cut the ELF kernel out of a bzImage, so that nothing is decompressed under emulation.

    The layout is that of the kernel's Documentation/arch/x86/boot.rst.
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length - 4]  # the last four bytes are its unpacked length
    if payload.startswith(_ZSTD):
        return subprocess.run(["zstd", "-dc"], input=payload, capture_output=True, check=True).stdout
    if payload.startswith(_XZ):
        return lzma.decompress(payload)
    raise UnavailableError(f"the kernel is packed in an unknown way: {payload[:6].hex()}")


def _copy_modules(tree: Path, target: Path) -> list[str]:
    """Unpack the wanted modules and what they depend on; their file names in order. Built-in ones are passed over."""
    files = {path.name.split(".ko")[0].replace("-", "_"): path for path in tree.rglob("*.ko*")}
    order: list[str] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or f"{name}.ko" in order:
            return
        content = _module(path)
        match = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in (match[1].decode() if match else "").split(","):
            if needed:
                add(needed)
        (target / f"{name}.ko").write_bytes(content)
        order.append(f"{name}.ko")

    for name in (*ROOT_MODULES, *NET_MODULES):
        add(name)
    return order


def _module(path: Path) -> bytes:
    """Its content, without the signature: checking one takes long under emulation, and none is asked for."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        content = lzma.decompress(content)
    elif path.suffix == ".zst":
        content = subprocess.run(["zstd", "-dc"], input=content, capture_output=True, check=True).stdout
    marker = b"~Module signature appended~\n"
    if content.endswith(marker):
        (signature,) = struct.unpack_from(">I", content, len(content) - len(marker) - 4)
        content = content[: len(content) - len(marker) - 12 - signature]
    return content
