# SPDX-License-Identifier: Apache-2.0
"""Writes the generated modules beside the .proto files: `make proto`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def generate(out: Path) -> None:
    """Compile every .proto of ciliumpy.proto to `out`/ciliumpy/proto/*_pb2.py and .pyi.

    The import path begins at src/, so that generated modules import one another as ciliumpy.proto.* and take no global
    name. Raises RuntimeError if the compiler refuses; it has said why on stderr.
    """
    from grpc_tools import protoc

    known = files("grpc_tools") / "_proto"
    names = sorted(str(p.relative_to(SOURCE)) for p in (SOURCE / "ciliumpy/proto").glob("*.proto"))
    status = protoc.main(["protoc", f"-I{SOURCE}", f"-I{known}", f"--python_out={out}", f"--pyi_out={out}", *names])
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status}")


if __name__ == "__main__":
    generate(SOURCE)
