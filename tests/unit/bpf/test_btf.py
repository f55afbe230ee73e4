# SPDX-License-Identifier: Apache-2.0
"""Layouts from BTF are the compiler's: no root needed."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from ciliumpy.bpf import build
from ciliumpy.bpf.btf import Btf
from ciliumpy.kit.errors import CiliumpyError


@pytest.fixture(scope="module")
def btf(sample):
    return Btf.from_object(sample)


def test_a_struct_has_the_compilers_offsets(btf, tmp_path):
    """The same struct compiled for this machine says its own offsets."""
    source = (build.SOURCES.parents[3] / "tests/unit/bpf/sample.bpf.c").read_text()
    shapes = source[source.index("enum colour") : source.index("#define MAP")]
    dtype = btf.dtype("shapes")
    prints = "".join(f'printf("{name} %zu\\n", __builtin_offsetof(struct shapes, {name}));' for name in dtype.names)
    program = tmp_path / "offsets.c"
    program.write_text(
        f'#include <stdio.h>\n#include "layout.h"\n{shapes}\n'
        f'int main(void) {{ {prints} printf("sizeof %zu\\n", sizeof(struct shapes)); }}\n'
    )
    binary = tmp_path / "offsets"
    subprocess.run([build.find_clang(), "-I", build.SOURCES, "-o", binary, program], check=True)
    output = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    said = dict(line.split() for line in output.splitlines())
    assert {name: dtype.fields[name][1] for name in dtype.names} == {
        name: int(offset) for name, offset in said.items() if name != "sizeof"
    }
    assert dtype.itemsize == int(said["sizeof"])


def test_types_become_what_numpy_has(btf):
    fields = btf.dtype("shapes").fields
    assert {name: None if name in {"nested", "named"} else field[0] for name, field in fields.items()} == {
        "first": np.dtype("u1"),
        "number": np.dtype("i4"),
        "colour": np.dtype("i4"),
        "wide": np.dtype("u8"),
        "truth": np.dtype("?"),
        "text": np.dtype("S12"),
        "pair": np.dtype(("u2", (2,))),
        "nested": None,
        "whole": np.dtype("u8"),
        "low": np.dtype("u4"),
        "high": np.dtype("u4"),
        "named": None,
        "pointer": np.dtype("u8"),
        "last": np.dtype("u8"),
    }
    assert fields["nested"][0].shape == (2,)
    assert fields["nested"][0].base == btf.dtype("port_key")


def test_members_of_unnamed_unions_stand_in_the_struct_and_overlap(btf):
    row = np.zeros(1, btf.dtype("shapes"))
    row["whole"] = 0x0000_0002_0000_0001
    assert (row["low"][0], row["high"][0]) == (1, 2)
    row["named"]["one"] = 0x04030201
    assert row["named"]["other"][0].tolist() == [1, 2, 3, 4]


def test_bit_fields_are_left_out_and_known_as_members(btf):
    dtype = btf.dtype("shapes")
    assert "bits" not in dtype.names
    (member,) = [one for one in btf.members(btf.find("shapes")) if one.name == "bits"]
    assert (member.bits, member.shift) == (3, 0)


def test_the_event_record_is_120_bytes(btf):
    assert btf.dtype("event").itemsize == 120
    assert btf.dtype("event").fields["packets"][1] == 112


def test_enums_by_name(btf):
    assert btf.enum("colour") == {"RED": 1, "GREEN": -2}
    assert btf.enum("wide") == {"FAR": 1 << 32}


def test_an_unknown_type_is_named(btf):
    with pytest.raises(CiliumpyError, match="no type 'nonsense'"):
        btf.dtype("nonsense")


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "not a 64-bit ELF"), (b"hello world" * 20, "not a 64-bit ELF"), (None, "No such file")]
)
def test_what_is_no_object_is_refused(tmp_path, content, said):
    path = tmp_path / "x.o"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CiliumpyError, match=re.escape(said)):
        Btf.from_object(path)
