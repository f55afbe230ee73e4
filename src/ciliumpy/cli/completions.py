# SPDX-License-Identifier: Apache-2.0
"""Completion scripts for bash and zsh, made from the command tree.

`python -m ciliumpy.cli.completions [FOLDER]` writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ciliumpy.cli.tree import FILE_METAVARS, Flag, Node, tree

BASH_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# bash completion for ciliumpy. Made from the command tree; `python -m ciliumpy.cli.completions` makes it anew.

_ciliumpy() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="" path="" word skip=0 i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        previous="$word"
        if ((skip)); then
            skip=0
            continue
        fi
        case "$word" in
            --) return ;;
            ls) path="${path:+$path }list" ;;
            -*) [[ "$(_ciliumpy_value "$path" "$word")" ]] && skip=1 ;;
            *) [[ " $(_ciliumpy_words "$path") " == *" $word "* ]] && path="${path:+$path }$word" ;;
        esac
    done
    if ((skip)); then
        case "$(_ciliumpy_value "$path" "$previous")" in
            file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
            any) ;;
            *)
                mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_value "$path" "$previous")" -- "$current")
                [[ "${COMPREPLY[0]}" == *= ]] && ((${#COMPREPLY[@]} == 1)) && compopt -o nospace 2>/dev/null
                ;;
        esac
        return
    fi
    if [[ "$current" == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_flags "$path")" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_words "$path")" -- "$current")
    fi
}

"""


def bash() -> str:
    """Return the script for bash: what can follow each path, as three functions over one walk."""
    nodes = list(tree().walk())
    words = {_path(node): [child.path[-1] for child in node.children] or _argument_words(node) for node in nodes}
    flags = {_path(node): [name for flag in node.flags for name in flag.names] for node in nodes}
    values = {
        f"{_path(node)}:{name}": _bash_value(flag)
        for node in nodes
        for flag in node.flags
        if flag.takes_value
        for name in flag.names
    }
    return (
        BASH_HEAD
        + _bash_function("_ciliumpy_words", '"$1"', {path: " ".join(each) for path, each in words.items()})
        + _bash_function("_ciliumpy_flags", '"$1"', {path: " ".join(each) for path, each in flags.items()})
        + _bash_function("_ciliumpy_value", '"$1:$2"', values)
        + "complete -F _ciliumpy ciliumpy\n"
    )


def _bash_function(name: str, key: str, answers: Mapping[str, str]) -> str:
    """Return a function that prints an answer by key; keys with the same answer share a line."""
    by_answer: dict[str, list[str]] = {}
    for asked, answer in answers.items():
        if answer:
            by_answer.setdefault(answer, []).append(f'"{asked}"')
    between = " |\\\n            "
    cases = [f'        {between.join(keys)})\n            echo "{answer}" ;;\n' for answer, keys in by_answer.items()]
    return f"{name}() {{\n    case {key} in\n{''.join(cases)}    esac\n}}\n\n"


def _bash_value(flag: Flag) -> str:
    if flag.choices:
        return " ".join(flag.choices)
    return "file" if flag.metavar in FILE_METAVARS else "any"


def _argument_words(node: Node) -> list[str]:
    return [choice for argument in node.arguments for choice in argument.choices]


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
    return head + "\n".join(_zsh_function(node) for node in nodes) + '\n_ciliumpy "$@"\n'


def _zsh_function(node: Node) -> str:
    name = "_" + "_".join(part.replace("-", "_") for part in node.path)
    specs = [spec for flag in node.flags for spec in _zsh_flag(flag)]
    if not node.children:
        specs += [_zsh_argument(argument.metavar, argument.choices) for argument in node.arguments]
        specs = specs or ["'*::'"]
        return f"{name}() {{\n    _arguments {_continued(specs)}\n}}\n"
    specs += ["'1: :->verb'", "'*:: :->rest'"]
    described = [f"{child.path[-1]}:{_plain(child.help)}" for child in node.children]
    entries = "".join(f"                {_quote(each)}\n" for each in described)
    calls = "".join(
        f"                {child.path[-1]}) {name}_{child.path[-1].replace('-', '_')} ;;\n" for child in node.children
    )
    return (
        f"{name}() {{\n    local line state\n    local -a verbs\n    _arguments -C {_continued(specs)}\n"
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
            value = f":{'value' if flag.choices else _plain(flag.metavar)}:{_zsh_action(flag.metavar, flag.choices)}"
        yield _quote(f"({others}){name}[{text}]{value}")


def _zsh_argument(metavar: str, choices: tuple[str, ...]) -> str:
    return _quote(f"*:{_plain(metavar).replace(':', ' ')}:{_zsh_action(metavar, choices)}")


def _zsh_action(metavar: str, choices: tuple[str, ...]) -> str:
    if choices:
        return f"({' '.join(choices)})"
    return "_files" if metavar in FILE_METAVARS else " "


def _continued(specs: list[str]) -> str:
    return "".join(f"\\\n        {spec} " for spec in specs).rstrip()


def _plain(text: str) -> str:
    return " ".join(text.split())


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


SCRIPTS: Mapping[str, Callable[[], str]] = {"bash": bash, "zsh": zsh}
FILES = {"bash": "ciliumpy.bash", "zsh": "_ciliumpy"}


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "completions")
    for shell, make in SCRIPTS.items():
        (folder / FILES[shell]).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
