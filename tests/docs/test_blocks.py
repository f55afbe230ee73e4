# SPDX-License-Identifier: Apache-2.0
"""What a page's text means: blocks, placeholders, wildcards; and that another output is found."""

from __future__ import annotations

import pytest

from .blocks import PLACEHOLDERS, PageError, blocks, first_wrong, general, matches

PAGE = """\
Text.

```yaml policy.yaml
a: 1
```

```console
$ cat policy.yaml
a: 1
$ cat <<E
> in
> E
in
```

<!-- not run: wants a reboot -->
```console
$ reboot
```

```python
print("$ not a command")
```
"""


def test_blocks_are_commands_files_and_what_is_not_run() -> None:
    file, first, second = blocks(PAGE)
    assert (file.file, file.lines) == ("policy.yaml", ["a: 1"])
    assert [(c.text, c.line, c.first, c.output) for c in first.commands] == [
        ("cat policy.yaml", 8, 9, ["a: 1"]),
        ("cat <<E\nin\nE", 10, 13, ["in"]),
    ]
    assert (second.not_run, second.commands[0].text) == ("wants a reboot", "reboot")


def test_a_block_that_does_not_begin_with_a_command_is_refused() -> None:
    with pytest.raises(PageError, match="page:2: a console block begins with"):
        blocks("```console\n# lab up\n```\n", "page")
    with pytest.raises(PageError, match="page:3: more than one … in a line"):
        blocks("```console\n$ x\na … b …\n```\n", "page")


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("a <n> b", "a -3.5 b"),
        ("NAME   STATE", "NAME        STATE"),
        ("<ip>:<port>", "10.244.0.3:8080"),
        ("<ip>", "fd00:10:244::3"),
        ("api-<name> (ID:<id>)", "api-6f9c7bdfg-tq4rs (ID:20001)"),
        ("<time>: x", "Nov 20 17:00:02.700: x"),
        ("<time> x", "2026-11-20T17:00:02.7Z x"),
        ("a … z", "a b c z"),
        ("…\nb", "x\ny\nb"),
        ("…\nb", "b"),
        ("a\n…", "a"),
        ("<ip-1> is <ip-1>", "10.0.0.1 is 10.0.0.1"),
    ],
)
def test_output_as_the_page_says(expected: str, actual: str) -> None:
    assert matches(expected.splitlines(), actual.splitlines(), {})


@pytest.mark.parametrize(
    ("expected", "actual", "line"),
    [
        ("a", "b", 0),
        ("a", "a\nb", 1),
        ("a\nb", "a", 1),
        ("", "a", 0),
        ("a <n>", "a b", 0),
        ("<ip>", "10.244.0", 0),
        ("<port>", "0", 0),
        ("<name>", "-a", 0),
        ("a.c", "abc", 0),
        ("a … z", "a\nz", 0),
        ("x\n<ip-1> is <ip-1>", "x\n10.0.0.1 is 10.0.0.2", 1),
    ],
)
def test_other_output_is_found_and_where(expected: str, actual: str, line: int) -> None:
    assert not matches(expected.splitlines(), actual.splitlines(), {})
    assert first_wrong(expected.splitlines(), actual.splitlines(), {}) == line


def test_a_numbered_placeholder_means_the_same_on_the_whole_page() -> None:
    known: dict[str, str] = {}
    assert matches(["<name-1> has <ip-1>"], ["api has 10.0.0.1"], known)
    assert known == {"name-1": "api", "ip-1": "10.0.0.1"}
    assert matches(["<ip-1> <ip-2>"], ["10.0.0.1 10.0.0.2"], known)
    assert not matches(["<ip-1>"], ["10.0.0.2"], known)


def test_placeholders_match_no_blanks_or_nothing() -> None:
    for kind in PLACEHOLDERS:
        assert not matches([f"a<{kind}>b"], ["ab"], {}), kind
        if kind != "time":
            assert not matches([f"<{kind}>"], ["1 1"], {}), kind


def test_what_is_written_anew_has_placeholders() -> None:
    line = "Nov 20 17:00:02.700: shop/api-6f9c7bdfg-tq4rs 10.244.0.7 (pid 71)  "
    assert general(line) == "<time>: shop/api-<name> <ip> (pid <pid>)"
