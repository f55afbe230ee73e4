# SPDX-License-Identifier: Apache-2.0
"""The sample objects, compiled once, and a folder for pins that is gone afterwards."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from pathlib import Path

import pytest

from ciliumpy.bpf import build
from ciliumpy.bpf.pins import mounted
from ciliumpy.bpf.programs import load_object

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compile a source beside this file; the object's path."""
    folder = tmp_path_factory.mktemp("objects")

    def compile_once(name: str, *extra: str) -> Path:
        target = folder / f"{name}.o"
        if not target.exists():
            build.compile_object(HERE / f"{name}.bpf.c", target, extra=extra)
        return target

    try:
        build.need_tools()
    except build.BuildError as error:
        pytest.skip(str(error))
    return compile_once


@pytest.fixture(scope="session")
def sample(compiled):
    return compiled("sample")


@pytest.fixture
def loaded(sample):
    with load_object(sample) as collection:
        yield collection


@pytest.fixture
def pins():
    folder = mounted() / f"cpt-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def own_namespace():
    """A fresh network namespace for the thread of the test, with `lo` up (its index is 1)."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet = 0x40000000
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(clone_newnet) == 0, os.strerror(ctypes.get_errno())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            import fcntl
            import struct

            fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
        yield 1
    finally:
        libc.setns(before, clone_newnet)
        os.close(before)
