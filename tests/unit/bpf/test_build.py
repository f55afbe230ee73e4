# SPDX-License-Identifier: Apache-2.0
"""Objects are built when a source is newer, whole or not at all, and hold no path of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys as python

import pytest

from ciliumpy.bpf import build

SOURCE = """/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "part.h"
SEC("tc") int nothing(struct __sk_buff *skb) { return PART; }
"""


@pytest.fixture
def tree(tmp_path, compiled):
    sources = tmp_path / "c"
    sources.mkdir()
    (sources / "one.bpf.c").write_text(SOURCE)
    (sources / "part.h").write_text("#define PART 1\n")
    return sources, tmp_path / "objects"


def test_it_builds_what_is_missing_and_then_nothing(tree):
    assert build.build(*tree) == [tree[1] / "one.o"]
    assert build.build(*tree) == []


def test_a_header_that_changed_builds_again(tree):
    build.build(*tree)
    header = tree[0] / "part.h"
    later = (tree[1] / "one.o").stat().st_mtime + 1
    os.utime(header, (later, later))
    assert build.build(*tree) == [tree[1] / "one.o"]


def test_an_error_names_the_line_and_leaves_the_old_object(tree):
    build.build(*tree)
    before = (tree[1] / "one.o").read_bytes()
    (tree[0] / "one.bpf.c").write_text(SOURCE.replace("PART", "nonsense"))
    with pytest.raises(build.BuildError, match=r"cannot compile one.bpf.c:\none.bpf.c:5:\d+: error"):
        build.build(*tree, force=True)
    assert (tree[1] / "one.o").read_bytes() == before
    assert [path.name for path in tree[1].iterdir()] == ["one.o"]


def test_an_object_holds_no_path_of_the_machine_and_is_the_same_elsewhere(tree, tmp_path):
    build.build(*tree)
    content = (tree[1] / "one.o").read_bytes()
    assert str(tmp_path).encode() not in content
    elsewhere = tmp_path / "elsewhere" / "c"
    shutil.copytree(tree[0], elsewhere)
    build.build(elsewhere, tmp_path / "other")
    assert (tmp_path / "other" / "one.o").read_bytes() == content


def test_no_clang_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("CLANG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match="apt-get install clang-16"):
        build.find_clang()


@pytest.mark.parametrize(("more", "code"), [((), 1), (("--if-possible",), 0)])
def test_without_clang_the_rest_goes_on_if_it_may(tmp_path, more, code):
    command = [python.executable, "-m", "ciliumpy.bpf.build", "--force", *more]
    environment = {key: value for key, value in os.environ.items() if key != "CLANG"} | {"PATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert "apt-get install clang-16" in done.stderr


def test_an_installation_in_place_compiles_nothing(monkeypatch):
    compiled = []
    monkeypatch.setattr(build, "build", lambda: compiled.append("all"))
    hook = build.get_build_hook()(".", {}, None, None, "", "wheel")
    hook.initialize("editable", {})
    assert compiled == []
    hook.initialize("standard", {})
    assert compiled == ["all"]


@pytest.mark.parametrize(
    ("present", "chosen"),
    [(["clang-14", "clang-16", "clang-19"], 16), (["clang-14", "clang-15"], 15), (["clang-13"], 0)],
)
def test_which_clang(monkeypatch, tmp_path, present, chosen):
    for name in present:
        (tmp_path / name).touch(0o755)
    monkeypatch.delenv("CLANG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if chosen:
        assert build.find_clang() == str(tmp_path / f"clang-{chosen}")
    else:
        with pytest.raises(build.BuildError):
            build.find_clang()


def test_the_hook_is_found_by_its_path_outside_the_package():
    """As hatchling does it: without the package on the path."""
    code = (
        "import importlib.util as u, sys;"
        f"s = u.spec_from_file_location('hook', {str(build.__file__)!r}); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); print(m.get_build_hook().PLUGIN_NAME, 'ciliumpy' in sys.modules)"
    )
    done = subprocess.run([python.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["custom", "False"]
