# SPDX-License-Identifier: Apache-2.0
"""The completion script for fish: one function that offers what can follow, from what the command tree says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ciliumpy.cli.tree import FILE_METAVARS, Flag, Node, tree

HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# fish completion for ciliumpy. Made from the command tree; `python -m ciliumpy.cli.completions` makes it anew.

function __ciliumpy_names
    set -l words (commandline -opc)
    $words[1] __complete $argv[1] $words[2..-1] "" 2>/dev/null
end

function __ciliumpy_values -a path what
    set -l value (__ciliumpy_value $path:$what)
    switch "$value[1]"
        case '@*'
            __ciliumpy_names (string replace @ '' -- $value[1])
        case file
            __fish_complete_path (commandline -ct)
        case any ''
        case '*'
            printf '%s\\n' $value
    end
end

function __ciliumpy_offer
    set -l words (commandline -opc)
    set -l path
    set -l skip 0
    set -l given 0
    set -l last
    for word in $words[2..-1]
        set last $word
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --
                return
            case '-*'
                test -n "$(__ciliumpy_value "$path:$word")"; and set skip 1
            case ls
                set path (string trim -- "$path list")
            case '*'
                if __ciliumpy_words "$path" | string match -q -r "^$(string escape --style=regex -- $word)(\\t|\\$)"
                    set path (string trim -- "$path $word")
                else
                    set given (math $given + 1)
                end
        end
    end
    if test $skip = 1
        __ciliumpy_values "$path" $last
    else if string match -q -- '-*' (commandline -ct)
        __ciliumpy_flags "$path"
    else
        __ciliumpy_words "$path"
        __ciliumpy_values "$path" $given
    end
end

"""
FOOT = "complete -c ciliumpy -f -a '(__ciliumpy_offer)'\n"


def fish() -> str:
    """Return the script: three functions that print what the tree says, and the one above that asks them."""
    nodes = list(tree().walk())
    words = {_path(node): [_told(child.path[-1], child.help) for child in node.children] for node in nodes}
    flags = {_path(node): [_told(name, flag.help) for flag in node.flags for name in flag.names] for node in nodes}
    values: dict[str, list[str]] = {}
    for node in nodes:
        for flag in node.flags:
            if flag.takes_value:
                values |= {f"{_path(node)}:{name}": _value(flag) for name in flag.names}
        for number, argument in enumerate(node.arguments):
            found = [f"@{argument.dynamic}"] if argument.dynamic else list(argument.choices)
            places = range(number, number + (8 if argument.repeated else 1))
            values |= {f"{_path(node)}:{place}": found for place in places if found}
    return (
        HEAD
        + _function("__ciliumpy_words", words)
        + _function("__ciliumpy_flags", flags)
        + _function("__ciliumpy_value", values)
        + FOOT
    )


def _function(name: str, answers: Mapping[str, Iterable[str]]) -> str:
    """Return a function that prints lines by key; keys with the same lines share a case."""
    by_lines: dict[tuple[str, ...], list[str]] = {}
    for key, lines in answers.items():
        if said := tuple(lines):
            by_lines.setdefault(said, []).append(_quote(key))
    cases = [
        f"        case {' '.join(keys)}\n            printf '%s\\n' {' '.join(map(_quote, lines))}\n"
        for lines, keys in by_lines.items()
    ]
    return f'function {name}\n    switch "$argv[1]"\n{"".join(cases)}    end\nend\n\n'


def _value(flag: Flag) -> list[str]:
    if flag.dynamic:
        return [f"@{flag.dynamic}"]
    if flag.choices:
        return list(flag.choices)
    return ["file" if flag.metavar in FILE_METAVARS else "any"]


def _told(word: str, help_text: str) -> str:
    """Return a word with what it means, as fish reads it."""
    return f"{word}\t{' '.join(help_text.split())}"


def _path(node: Node) -> str:
    return " ".join(node.path[1:])


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
