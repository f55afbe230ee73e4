# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an object, and where in it."""

from __future__ import annotations

Path = tuple[str | int, ...]


class FieldError(Exception):
    """A field that cannot be taken. `path` leads to it from the document's root: ("spec", "ingress", 0, "toPorts")."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path_text(path)}: {message}" if path else message)
        self.path = path
        self.message = message


def path_text(path: Path) -> str:
    """The path as users write it: spec.ingress[0].toPorts[0]; keys that hold dots or colons are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("-", "").replace("_", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text
