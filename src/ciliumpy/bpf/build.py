# SPDX-License-Identifier: Apache-2.0
"""Compiles c/*.bpf.c to objects/*.o: `python -m ciliumpy.bpf.build`, and hatchling's hook when a wheel is built.

The objects are CO-RE: no header of the running kernel is read, and they load on every kernel that has what they use.
An object is built again when any source, header or this file is newer. Standard library only, because hatchling loads
this file by its path, outside the package.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "c"
OBJECTS = Path(__file__).parent / "objects"
PREFERRED_CLANG = 16
OLDEST_CLANG = 14
FLAGS = ("-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror")


HEADERS = {"bpf/bpf_helpers.h": "libbpf-dev", "linux/bpf.h": "linux-libc-dev"}  # and their packages


class BuildError(Exception):
    """What is missing or wrong, in one message for the user."""


class MissingToolError(BuildError):
    """There is no compiler, or no headers for it."""


def installed_clangs() -> dict[int, str]:
    """The compilers from 14 on that are here, by version."""
    found: dict[int, str] = {}
    for folder in os.get_exec_path():
        for one in Path(folder).glob("clang*"):
            if match := re.fullmatch(r"clang-(\d+)", one.name):
                found.setdefault(int(match[1]), str(one))
    if plain := shutil.which("clang"):
        said = subprocess.run([plain, "--version"], capture_output=True, text=True, check=False).stdout
        if match := re.search(r"version (\d+)", said):
            found.setdefault(int(match[1]), plain)
    return {number: found[number] for number in sorted(found) if number >= OLDEST_CLANG}


def find_clang() -> str:
    """$CLANG, else clang-16, else the newest from 14 on."""
    if chosen := os.environ.get("CLANG"):
        return chosen
    found = installed_clangs()
    if not found:
        raise MissingToolError(f"clang {OLDEST_CLANG} or newer is needed for the BPF objects: apt-get install clang-16")
    return found.get(PREFERRED_CLANG, found[max(found)])


def need_tools() -> None:
    """MissingToolError that says what to install."""
    find_clang()
    for header, package in HEADERS.items():
        if not Path("/usr/include", header).exists():
            raise MissingToolError(f"{header} is needed for the BPF objects: apt-get install {package}")


def compile_object(
    source: Path, target: Path, *, include: Path = SOURCES, extra: tuple[str, ...] = (), clang: str = ""
) -> None:
    """Compile one source; the object appears whole or not at all. Without `clang` that is `find_clang()`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source, include, target = source.resolve(), include.resolve(), target.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    multiarch = f"/usr/include/{platform.machine()}-linux-gnu"  # asm/types.h of the C library's kernel headers
    folders = ("-I", str(include), "-idirafter", multiarch)
    # Paths in the object are relative, and clang runs beside the source, where it finds the lines it quotes in BTF.
    neutral = (f"-ffile-prefix-map={source.parent}=.", f"-ffile-prefix-map={include}=.")
    command = [clang or find_clang(), *FLAGS, *neutral, *folders, *extra, "-c", source.name, "-o", str(partial)]
    try:
        done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"cannot compile {source.name}:\n{done.stderr.rstrip()}")
        partial.replace(target)
    except FileNotFoundError as error:
        raise BuildError(f"cannot run {command[0]}: apt-get install clang-16") from error
    finally:
        partial.unlink(missing_ok=True)


def outdated(target: Path, sources: Path = SOURCES) -> bool:
    inputs = [*sources.glob("*.[ch]"), Path(__file__)]
    return not target.exists() or target.stat().st_mtime < max(one.stat().st_mtime for one in inputs)


def build(sources: Path = SOURCES, objects: Path = OBJECTS, *, force: bool = False) -> list[Path]:
    """Bring all objects up to date; those that were built."""
    built = []
    for source in sorted(sources.glob("*.bpf.c")):
        target = objects / f"{source.name.removesuffix('.bpf.c')}.o"
        if force or outdated(target, sources):
            need_tools()
            compile_object(source, target, include=sources)
            built.append(target)
    return built


def get_build_hook() -> Any:
    """What hatchling asks this file for."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class BpfBuildHook(BuildHookInterface[Any]):
        """Compiles the objects into every wheel, so that an installed package needs no compiler."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
            # A checkout that is installed in place builds by `make bpf`; without a compiler the rest of it still works.
            if self.target_name == "wheel" and version != "editable":
                build()

    return BpfBuildHook


def main() -> int:
    try:
        built = build(force="--force" in sys.argv[1:])
    except BuildError as error:
        if isinstance(error, MissingToolError) and "--if-possible" in sys.argv[1:]:
            sys.stderr.write(f"BPF objects: not built, what needs them is skipped: {error}\n")
            return 0
        sys.stderr.write(f"{error}\n")
        return 1
    for target in built:
        sys.stdout.write(f"built {target.name} ({target.stat().st_size >> 10} KiB)\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
