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
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ciliumpy" / "kernels"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Where a series is, if this machine's own package lists do not have it.
SOURCES = {"6.12": "http://deb.debian.org/debian trixie main"}
META = ("linux-image-{series}-amd64", "linux-image-amd64")
ROOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
NET_MODULES = ("veth", "vxlan", "dummy", "bridge", "sch_ingress", "cls_bpf")
_ZSTD, _XZ = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"


class UnavailableError(Exception):
    """Why there is no such kernel here."""


class Kernel(NamedTuple):
    """`image` is an ELF file, `modules` names files in `folder` in the order in which they are loaded."""

    series: str
    release: str
    image: Path
    folder: Path
    modules: tuple[str, ...]


def fetch(series: str) -> Kernel:
    """The newest kernel of a series; from the cache if it is there."""
    for needed in ("apt-get", "dpkg-deb", "zstd"):
        if not shutil.which(needed):
            raise UnavailableError(f"{needed} is not installed")
    options: list[str] = []
    package = _find(series, options)
    if package is None:
        options = _own_lists(series)
        package = _find(series, options)
    if package is None:
        raise UnavailableError(f"no package of Linux {series} in apt's lists")
    release = package.removeprefix("linux-image-")
    home = CACHE / release
    if not (home / "order").exists():
        _unpack(series, package, home, options)
    return Kernel(series, release, home / "vmlinux", home, tuple((home / "order").read_text().split()))


def _find(series: str, options: list[str]) -> str | None:
    """The package that the series' meta package stands for."""
    for meta in META:
        command = ["apt-cache", *options, "depends", "--important", meta.format(series=series)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        match = re.search(rf"Depends: (linux-image-{re.escape(series)}\.\S+)", said)
        if match:
            return match[1]
    return None


def _own_lists(series: str) -> list[str]:
    """Options for apt with package lists of our own: the machine's stay as they are."""
    home = CACHE / "lists"
    (home / "partial").mkdir(parents=True, exist_ok=True)
    sources = CACHE / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {SOURCES[series]}\n")
    settings = {
        "Dir::State::lists": home,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(["apt-get", *options, "update"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"apt-get update for Linux {series} failed: {done.stderr.strip()[-200:]}")
    return options


def _unpack(series: str, package: str, home: Path, options: list[str]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        scratch = Path(name)
        command = ["apt-get", *options, "-o", "APT::Sandbox::User=root", "download", package]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        archives = list(scratch.glob("*.deb"))
        if done.returncode or not archives:
            raise UnavailableError(f"cannot download {package}: {done.stderr.strip()[-200:]}")
        subprocess.run(["dpkg-deb", "-x", archives[0], scratch / "tree"], check=True)
        archives[0].unlink()
        ready = scratch / "ready"
        ready.mkdir()
        (ready / "vmlinux").write_bytes(_elf(next((scratch / "tree/boot").glob("vmlinuz-*")).read_bytes()))
        tree = next(path for path in (scratch / "tree/lib/modules", scratch / "tree/usr/lib/modules") if path.exists())
        order = _copy_modules(tree / home.name, ready)
        (ready / "order").write_text("\n".join(order) + "\n")
        for old in CACHE.glob(f"{series}.*"):
            shutil.rmtree(old)
        ready.rename(home)


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
