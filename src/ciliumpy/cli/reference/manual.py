# SPDX-License-Identifier: Apache-2.0
"""Manual pages: ciliumpy(1), and one for each noun and verb at the top of the command tree."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ciliumpy.cli.tree import Argument, Flag, Node, tree

DATE = "2026-11-20"
ENVIRONMENT = (
    ("CILIUMPY_LAB", "The lab that is meant where no --lab says which."),
    ("CILIUMPY_RUN_DIR", "The folder in which agents announce themselves (/run/ciliumpy)."),
    ("NO_COLOR", "If set, nothing is coloured."),
)
EXIT = (
    ("0", "It went well."),
    ("1", "It failed, a node did not answer, or what was checked is not well."),
    ("2", "It was asked wrongly."),
    ("130, 141", "Interrupted; the reader of the output has gone."),
)
WHICH = (
    "--lab NAME asks a lab, --node NODE one node; both, and -o, may also stand before the command. With nothing said "
    "it is the lab of CILIUMPY_LAB, else the host's agent if there is one, else the only lab of the machine. Lists "
    "ask all nodes of a lab."
)


def pages() -> dict[str, str]:
    """Return all pages by file name."""
    root = tree()
    found = {"ciliumpy.1": main_page(root)}
    for node in root.children:
        found[f"ciliumpy-{node.path[-1]}.1"] = command_page(node)
    return found


def main_page(root: Node) -> str:
    groups = "".join(tagged(f"ciliumpy-{node.path[-1]}(1)", node.help) for node in root.children)
    return (
        title("ciliumpy")
        + section("NAME", rf"ciliumpy \- {escape(root.help.rstrip('.'))}" + "\n")
        + section("SYNOPSIS", ".B ciliumpy\n[\\fIFLAGS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n")
        + section(
            "DESCRIPTION",
            paragraph(
                "What stands under bpf reads the kernel's pinned maps and needs root; everything else asks the agent "
                "over its socket. list is also ls. Data goes to standard output, all else to standard error."
            )
            + ".PP\n"
            + paragraph(WHICH),
        )
        + section("COMMANDS", groups)
        + section("EXIT STATUS", "".join(tagged(code, said) for code, said in EXIT))
        + section("ENVIRONMENT", "".join(tagged(name, said) for name, said in ENVIRONMENT))
    )


def command_page(node: Node) -> str:
    name = "-".join(node.path)
    verbs = [each for each in node.walk() if not each.children]
    synopsis = "".join(f"{'' if n == 0 else '.br' + chr(10)}{usage(verb)}" for n, verb in enumerate(verbs))
    text = title(name) + section("NAME", rf"{escape(name)} \- {escape(node.help.rstrip('.'))}" + "\n")
    text += section("SYNOPSIS", synopsis)
    if node.children:
        text += section("DESCRIPTION", paragraph(node.help))
        text += section("COMMANDS", "".join(verb_part(verb) for verb in verbs))
    else:
        text += section("DESCRIPTION", paragraphs(node.text)) + options(node)
    return text + section("SEE ALSO", "\\fBciliumpy\\fR(1)\n")


def verb_part(verb: Node) -> str:
    parts = f".SS {escape(' '.join(verb.path[1:]))}\n{paragraphs(verb.text)}"
    return parts + "".join(argument(each) for each in verb.arguments) + "".join(flag(each) for each in shown(verb))


def options(node: Node) -> str:
    arguments = "".join(argument(each) for each in node.arguments)
    flags = "".join(flag(each) for each in shown(node))
    return (section("ARGUMENTS", arguments) if arguments else "") + (section("OPTIONS", flags) if flags else "")


def shown(node: Node) -> Iterable[Flag]:
    return (each for each in node.flags if "--help" not in each.names)


def argument(each: Argument) -> str:
    return tagged(each.metavar, each.help, italic=True)


def flag(each: Flag) -> str:
    names = ", ".join(rf"\fB{escape(name)}\fR" for name in each.names)
    value = rf" \fI{escape(each.metavar)}\fR" if each.takes_value else ""
    default = f" Default: {each.default}." if each.default else ""
    return f".TP\n{names}{value}\n{paragraph(each.help + default)}"


def tagged(name: str, said: str, *, italic: bool = False) -> str:
    return f".TP\n\\f{'I' if italic else 'B'}{escape(name)}\\fR\n{paragraph(said or name)}"


def usage(verb: Node) -> str:
    words = " ".join(verb.path)
    rest = verb.usage.removeprefix(words).strip()
    return rf"\fB{escape(words)}\fR {escape(rest)}".rstrip() + "\n"


def title(name: str) -> str:
    return (
        '.\\" SPDX-License-Identifier: Apache-2.0\n'
        '.\\" Made from the command tree: python -m ciliumpy.cli.reference\n'
        f'.TH {name.upper()} 1 "{DATE}" "ciliumpy" "ciliumpy"\n'
    )


def section(name: str, text: str) -> str:
    return f".SH {name}\n{text}"


def paragraphs(text: str) -> str:
    parts = re.split(r"\n\s*\n", text.strip())
    return ".PP\n".join(paragraph(part) for part in parts)


def paragraph(text: str) -> str:
    """Return a text as lines of one sentence each, which is how manual pages are written."""
    plain = " ".join(text.split())
    sentences = re.split(r"(?<=[.:;]) (?=[A-Z`])", plain)
    return "".join(guarded(escape(sentence)) + "\n" for sentence in sentences)


def guarded(line: str) -> str:
    """Return a line that is no request, whatever it begins with."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


def escape(text: str) -> str:
    """Return a text as groff prints it: dashes that can be typed, quotes as they are."""
    found = text.replace("\\", r"\(rs").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return found.replace("…", "...").replace("^", r"\(ha").replace("~", r"\(ti")
