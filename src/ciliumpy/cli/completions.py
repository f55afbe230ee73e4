# SPDX-License-Identifier: Apache-2.0
"""Completion scripts for bash, zsh and fish, made from the command tree.

`python -m ciliumpy.cli.completions [FOLDER]` writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ciliumpy.cli.completion_fish import fish
from ciliumpy.cli.tree import FILE_METAVARS, Argument, Flag, Node, tree

REPEATED = 8  # places of an argument that may be said many times

BASH_HEAD = r"""# SPDX-License-Identifier: Apache-2.0
# bash completion for ciliumpy. Made from the command tree; `python -m ciliumpy.cli.completions` makes it anew.

_ciliumpy_names() {
    "${COMP_WORDS[0]/#\~/$HOME}" __complete "$@" 2>/dev/null
}

# What can be said: words, file, any, or @KIND, names that are asked for.
_ciliumpy_offer() {
    local cut
    case "$1" in
        "" | any) ;;
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        @*) mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_names "${1#@}" "${words[@]:1}")" -- "$current") ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
            [[ "${COMPREPLY[0]-}" == *= ]] && ((${#COMPREPLY[@]} == 1)) && compopt -o nospace 2>/dev/null
            ;;
    esac
    if [[ "$current" == *:* && "${COMP_WORDBREAKS-}" == *:* ]]; then
        cut="${current%"${current##*:}"}"
        COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    fi
}

_ciliumpy() {
    local line="${COMP_LINE:0:COMP_POINT}" current path="" word="" skip=0 given=0 i
    local -a words
    read -ra words <<<"$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    current="${words[-1]}"
    COMPREPLY=()
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word="${words[i]}"
        if ((skip)); then
            skip=0
            continue
        fi
        case "$word" in
            --) return ;;
            ls) path="${path:+$path }list" ;;
            -*) [[ "$(_ciliumpy_value "$path:$word")" ]] && skip=1 ;;
            *)
                if [[ " $(_ciliumpy_words "$path") " == *" $word "* ]]; then
                    path="${path:+$path }$word"
                else
                    given=$((given + 1))
                fi
                ;;
        esac
    done
    if ((skip)); then
        _ciliumpy_offer "$(_ciliumpy_value "$path:$word")"
    elif [[ "$current" == -* ]]; then
        _ciliumpy_offer "$(_ciliumpy_flags "$path")"
    else
        word="$(_ciliumpy_words "$path")"
        _ciliumpy_offer "${word:-$(_ciliumpy_value "$path:$given")}"
    fi
    return 0
}

"""


ZSH_NAMES = """\
# Names of a kind, its last argument; those before it are for compadd.
_ciliumpy_names() {
    local -a found
    found=(${(f)"$($ciliumpy_line[1] __complete $argv[-1] "${(@)ciliumpy_line[2,-1]}" 2>/dev/null)"})
    compadd "${(@)argv[1,-2]}" -a found
}

"""
ZSH_LINE = '    local -a ciliumpy_line=("${words[@]}")\n'


def bash() -> str:
    """Return the script for bash: what can follow each path, as three functions over one walk."""
    nodes = list(tree().walk())
    words = {_path(node): [child.path[-1] for child in node.children] for node in nodes}
    flags = {_path(node): [name for flag in node.flags for name in flag.names] for node in nodes}
    values = {
        f"{_path(node)}:{name}": _bash_value(flag)
        for node in nodes
        for flag in node.flags
        if flag.takes_value
        for name in flag.names
    }
    for node in nodes:
        for number, argument in enumerate(node.arguments):
            found = f"@{argument.dynamic}" if argument.dynamic else " ".join(argument.choices)
            places = range(number, number + (REPEATED if argument.repeated else 1))
            values |= {f"{_path(node)}:{place}": found for place in places}
    return (
        BASH_HEAD
        + _bash_function("_ciliumpy_words", {path: " ".join(each) for path, each in words.items()})
        + _bash_function("_ciliumpy_flags", {path: " ".join(each) for path, each in flags.items()})
        + _bash_function("_ciliumpy_value", values)
        + "complete -F _ciliumpy ciliumpy\n"
    )


def _bash_function(name: str, answers: Mapping[str, str]) -> str:
    """Return a function that prints an answer by key; keys with the same answer share a line."""
    by_answer: dict[str, list[str]] = {}
    for asked, answer in answers.items():
        if answer:
            by_answer.setdefault(answer, []).append(f'"{asked}"')
    between = " |\\\n            "
    cases = [f'        {between.join(keys)})\n            echo "{answer}" ;;\n' for answer, keys in by_answer.items()]
    return f'{name}() {{\n    case "$1" in\n{"".join(cases)}    esac\n}}\n\n'


def _bash_value(flag: Flag) -> str:
    if flag.dynamic:
        return f"@{flag.dynamic}"
    if flag.choices:
        return " ".join(flag.choices)
    return "file" if flag.metavar in FILE_METAVARS else "any"


def _path(node: Node) -> str:
    return " ".join(node.path[1:])


def zsh() -> str:
    """Return the script for zsh: one function a group or verb, called down the path."""
    nodes = list(tree().walk())
    head = (
        "#compdef ciliumpy\n# SPDX-License-Identifier: Apache-2.0\n"
        "# zsh completion for ciliumpy. Made from the command tree;"
        " `python -m ciliumpy.cli.completions` makes it anew.\n\n"
    )
    return head + ZSH_NAMES + "\n".join(_zsh_function(node) for node in nodes) + '\n_ciliumpy "$@"\n'


def _zsh_function(node: Node) -> str:
    name = "_" + "_".join(part.replace("-", "_") for part in node.path)
    specs = [spec for flag in node.flags for spec in _zsh_flag(flag)]
    if not node.children:
        specs += [_zsh_argument(number, argument) for number, argument in enumerate(node.arguments, 1)]
        specs = specs or ["'*::'"]
        return f"{name}() {{\n    _arguments {_continued(specs)}\n}}\n"
    specs += ["'1: :->verb'", "'*:: :->rest'"]
    described = [f"{child.path[-1]}:{_plain(child.help)}" for child in node.children]
    entries = "".join(f"                {_quote(each)}\n" for each in described)
    calls = "".join(
        f"                {child.path[-1]}) {name}_{child.path[-1].replace('-', '_')} ;;\n" for child in node.children
    )
    whole = "" if node.path[1:] else ZSH_LINE
    return (
        f"{name}() {{\n{whole}    local line state\n    local -a verbs\n    _arguments -C {_continued(specs)}\n"
        f"    case $state in\n        verb)\n            verbs=(\n{entries}            )\n"
        f"            _describe command verbs\n            ;;\n        rest)\n            case $line[1] in\n{calls}"
        "            esac\n            ;;\n    esac\n}\n"
    )


def _zsh_flag(flag: Flag) -> Iterable[str]:
    text = _plain(flag.help).replace("[", "(").replace("]", ")").replace(":", "\\:")
    for name in flag.names:
        others = " ".join(flag.names)
        value = ""
        if flag.takes_value:
            value = f":{'value' if flag.choices else _plain(flag.metavar).replace(':', ' ')}:{_zsh_action(flag)}"
        yield _quote(f"({others}){name}[{text}]{value}")


def _zsh_argument(number: int, argument: Argument) -> str:
    place = "*" if argument.repeated else str(number)
    return _quote(f"{place}:{_plain(argument.metavar).replace(':', ' ')}:{_zsh_action(argument)}")


def _zsh_action(said: Flag | Argument) -> str:
    if said.dynamic:
        return f"_ciliumpy_names {said.dynamic}"
    if said.choices:
        return f"({' '.join(said.choices)})"
    return "_files" if said.metavar in FILE_METAVARS else " "


def _continued(specs: list[str]) -> str:
    return "".join(f"\\\n        {spec} " for spec in specs).rstrip()


def _plain(text: str) -> str:
    return " ".join(text.split())


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


SCRIPTS: Mapping[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
FILES = {"bash": "ciliumpy.bash", "zsh": "_ciliumpy", "fish": "ciliumpy.fish"}


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "completions")
    for shell, make in SCRIPTS.items():
        (folder / FILES[shell]).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
