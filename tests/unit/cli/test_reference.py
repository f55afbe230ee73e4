# SPDX-License-Identifier: Apache-2.0
"""The reference says all there is: every reason, map, setting and table; and manual pages can be read as such."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from ciliumpy.bpf.build import OBJECTS, SOURCES
from ciliumpy.bpf.names import NARROW, SETTINGS, WIDE
from ciliumpy.cli.app import ROOT
from ciliumpy.cli.reference import drop_reasons, manual, maps, settings, tables
from ciliumpy.daemon.config import AgentConfig
from ciliumpy.model.drop_help import ALL, DROP_HELP
from ciliumpy.model.drop_reasons import DROP_REASONS
from ciliumpy.state import schema
from ciliumpy.tables.registry import ALL_TABLES

MAN = Path(__file__).parents[3] / "docs" / "man"
PAGES = sorted(MAN.glob("*.1"))


def test_every_reason_the_datapath_gives_is_explained_and_no_other() -> None:
    given = drop_reasons.emitted(SOURCES)
    assert sorted(given) == sorted(DROP_HELP), "explain it in model/drop_help.py, or take it out there"
    _, declared = drop_reasons.declared(SOURCES)
    assert set(declared.values()) == set(given), "declared in packet.h and never given"
    for number, help_ in DROP_HELP.items():
        assert DROP_REASONS[number][0], number
        assert all(help_), number
        assert set(help_.programs) <= set(ALL)
    page = drop_reasons.page()
    for number, (_, text) in DROP_REASONS.items():
        assert (f"| {number} | " in page and text in page) or not number


def test_a_reason_that_nobody_explains_is_found(tmp_path: Path) -> None:
    (tmp_path / "packet.h").write_text("enum reason {\n\tDROP_OLD = 133,\n\tDROP_NEW = 199,\n};\n")
    (tmp_path / "slow.h").write_text("return REFUSE(p, FILE_SLOW, DROP_NEW);")
    assert drop_reasons.emitted(tmp_path) == {199: {"slow.h"}}


def test_every_map_is_there_with_what_it_holds() -> None:
    text = (SOURCES / "maps.h").read_text()
    named = set(re.findall(r"\bcp_\w+_v\d+\b", re.sub(r"&cp_\w+|#define cp_.*", "", text)))
    found = {each.name for each in maps.declared_maps()}
    assert found == named
    about = maps.comments((SOURCES / "layout.h").read_text())
    silent = [name for name in found if not about.get(name) and not name.startswith("cp_scratch")]
    assert silent == [], "layout.h has a comment that begins with the map's name and says what it holds"
    assert {name.rpartition("_")[0] for name in found} >= maps.AGENT
    assert {name: SETTINGS[name] for name in AgentConfig().map_sizes()} == changed_by()
    assert [SETTINGS[name] for name in WIDE.maps] == [SETTINGS[name] for name in NARROW.maps]


def changed_by() -> dict[str, str]:
    """Which setting gives each map its size: found by changing them one by one."""
    plain, odd = AgentConfig(), 12345
    found: dict[str, str] = {}
    for part in ("conntrack", "maps"):
        for field in msgspec.structs.fields(getattr(plain, part)):
            changed = msgspec.structs.replace(getattr(plain, part), **{field.name: odd})
            sizes = msgspec.structs.replace(plain, **{part: changed}).map_sizes()
            found |= {name: f"{part}.{field.encode_name}" for name, size in sizes.items() if size == odd}
    return found


@pytest.mark.skipif(not (OBJECTS / "datapath.o").exists(), reason="the objects are not built")
def test_the_maps_are_those_of_the_object() -> None:
    from ciliumpy.bpf.btf import Btf

    btf = Btf.from_object(OBJECTS / "datapath.o")
    really = {member.name for member in btf.members(btf.find(".maps"))}
    assert {each.name for each in maps.declared_maps()} == really


def test_every_setting_says_what_it_is() -> None:
    page = settings.page()
    for key, field in schema.fields(AgentConfig).items():
        assert f"| `{key}` | {field.kind}" in page
        assert field.description.endswith("."), f"{key}: `about` it in daemon/config.py"
        assert field.environment.startswith("CILIUMPY_")
    numbers = [field for field in schema.fields(AgentConfig).values() if field.kind.startswith("integer")]
    assert [field.key for field in numbers if not field.unit] == ["network.tunnelPort"]


def test_every_table_says_its_key_and_fields() -> None:
    page = tables.page()
    for spec in ALL_TABLES:
        assert f"\n## {spec.name}\n" in page
        key, indexes = tables.declaration(spec)
        assert key
        assert set(indexes) == set(spec.indexes)
        names = [name for name, _, _ in tables.fields(spec.row)]
        assert names == list(spec.row.__struct_fields__), spec.name


def test_there_is_a_page_for_each_command() -> None:
    commands = [name for section in ROOT.values() for name in section]
    assert {path.name for path in PAGES} == {"ciliumpy.1", *(f"ciliumpy-{name}.1" for name in commands)}


def test_what_a_page_says_is_no_request() -> None:
    said = manual.paragraph(".hidden files\n\n'quoted' -v a\\b ~ ^")
    assert said == "\\&.hidden files \\(aqquoted\\(aq \\-v a\\(rsb \\(ti \\(ha\n"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_complain_of() -> None:
    command = ["groff", "-man", "-ww", "-b", "-z", "-Tutf8", "-Kutf8"]
    for page in PAGES:
        child = subprocess.run([*command, str(page)], capture_output=True, text=True, check=False)
        assert (child.returncode, child.stderr) == (0, ""), page.name


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_to_complain_of() -> None:
    child = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *map(str, PAGES)], capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout + child.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_them(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "HOME": str(tmp_path)}
    child = subprocess.run(
        ["man", "--warnings", "-l", str(MAN / "ciliumpy-config.1")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if "minimized" in child.stdout + child.stderr:  # a Debian container's man
        pytest.skip("this system's man shows no pages")
    assert (child.returncode, child.stderr) == (0, "")
    text = re.sub(r".\x08", "", child.stdout)
    assert "ciliumpy-config - The agents' settings" in text
    assert "   config set" in text
