# SPDX-License-Identifier: Apache-2.0
"""Runs every scenario of this folder. How they are written is said in the package's docstring."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from pathlib import Path

import pytest

from tests.scenarios import txtar
from tests.scenarios.machine import Machine
from tests.scenarios.show import Shown
from tests.scenarios.txtar import Archive, Section
from tests.unit.datapath.kernel import OBJECT

FOLDER = Path(__file__).parent
SCENARIOS = sorted(FOLDER.glob("*.txtar"))
UPDATE = bool(os.environ.get("UPDATE_SCENARIOS"))
LOOKS = ("table", "map")


async def play(archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Do what the scenario says; return it with what there was to see."""
    steps = list(archive.sections)
    seen = [steps.pop(0)] if steps[0].name == "config" else []
    machine = Machine(folder, seen[0].text if seen else "", monkeypatch)
    shown = Shown(str(machine.root))
    try:
        await machine.start()
        for section in steps:
            verb, *words = section.name.split()
            if verb in LOOKS:
                await machine.settled()
                seen.append(section._replace(text=look(machine, shown, verb, words)))
            else:
                await step(machine, section)
                seen.append(section)
    finally:
        await machine.stop()
    return archive._replace(sections=tuple(seen))


def look(machine: Machine, shown: Shown, verb: str, words: list[str]) -> str:
    name, *columns = words
    if verb == "table":
        return shown.table(machine.db.tables[name], columns)
    return shown.map(machine.kernel.maps[name], columns)


async def step(machine: Machine, section: Section) -> None:
    words = section.name.split()
    if words[0] not in ("add", "replace"):
        assert re.fullmatch(r"(#.*\n)*", section.text), f"line {section.line}: {section.name} takes comments only"
    match words:
        case ["add", name]:
            assert not (machine.root / name).exists(), f"{name} is there already"
            await machine.put(name, section.text)
        case ["replace", name]:
            assert (machine.root / name).exists(), f"{name} is not there yet"
            await machine.put(name, section.text)
        case ["delete", name]:
            await machine.delete(name)
        case ["endpoint", "add", pod]:
            await machine.plug_in(*pod.split("/"))
        case ["endpoint", "delete", pod]:
            await machine.plug_out(*pod.split("/"))
        case ["stop"]:
            await machine.stop()
        case ["start"]:
            await machine.start()
        case ["restart"]:
            await machine.stop()
            await machine.start()
        case _:
            pytest.fail(f"line {section.line}: there is no step {section.name!r}")


def differences(expected: Archive, seen: Archive, name: str) -> list[str]:
    """A unified diff of each section that is not as expected, headed by file and line."""
    found = []
    for was, now in zip(expected.sections, seen.sections, strict=True):
        if was != now:
            lines = difflib.unified_diff(was.text.splitlines(), now.text.splitlines(), "expected", "seen", lineterm="")
            found.append("\n".join([f"{name}:{was.line}: {was.name}", *lines]))
    return found


@pytest.mark.skipif(not OBJECT.exists(), reason="the BPF objects are not built (make bpf)")
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = txtar.parse(path.read_text())
    assert expected.comment.startswith("# SPDX-License-Identifier: Apache-2.0\n# "), "say what it shows"
    seen = asyncio.run(play(expected, tmp_path, monkeypatch))
    if UPDATE:
        path.write_text(txtar.write(seen))
    found = [] if UPDATE else differences(expected, seen, path.name)
    if found:
        pytest.fail("\n\n".join(found), pytrace=False)


def test_a_file_is_written_as_it_was_read() -> None:
    assert SCENARIOS
    for path in SCENARIOS:
        assert txtar.write(txtar.parse(path.read_text())) == path.read_text()


def test_what_is_not_as_expected_is_told_with_its_line() -> None:
    expected = txtar.parse("# what\n-- add a.yaml --\nkind: A\n-- table a --\nID\n1\n")
    assert differences(expected, expected, "a.txtar") == []
    seen = txtar.parse(txtar.write(expected).replace("1", "2"))
    assert differences(expected, seen, "a.txtar") == [
        "a.txtar:4: table a\n--- expected\n+++ seen\n@@ -1,2 +1,2 @@\n ID\n-1\n+2"
    ]
