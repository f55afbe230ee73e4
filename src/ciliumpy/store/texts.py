# SPDX-License-Identifier: Apache-2.0
"""The texts that a command's user names: files, folders, standard input."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import GIVEN
from ciliumpy.store.check import Text
from ciliumpy.store.directory.files import counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STDIN = "-"
STDIN_NAME = "<stdin>"


def texts(sources: Iterable[str]) -> Iterator[Text]:
    """Yield the text of each source once: of a folder every *.yaml, *.yml and *.json below it, sorted, dot names aside.

    CiliumpyError (2) for a source that is not there; a file of a folder that cannot be read is a text with a fault.
    Links to files are followed, links to folders are not.
    """
    seen: set[str] = set()
    for source in sources:
        for path in _named(source):
            own = path if path == STDIN else os.path.realpath(path)
            if own not in seen:
                seen.add(own)
                yield _read(path)


def _named(source: str) -> Iterator[str]:
    if source == STDIN:
        yield STDIN
        return
    path = Path(source)
    if not path.exists():
        why = "a link that leads nowhere" if path.is_symlink() else "No such file or folder"
        raise CiliumpyError(f"cannot read {source}: {why}", exit_code=2)
    if not path.is_dir():
        yield source
        return
    for folder, folders, names in os.walk(source, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(counts, names)):
            yield str(Path(folder, name))


def _read(path: str) -> Text:
    name = os.fsencode(path).decode(errors="backslashreplace")
    try:
        if path == STDIN:
            return Text(STDIN_NAME, sys.stdin.buffer.read(GIVEN.octets + 1))
        # Without blocking, for a pipe that somebody named x.yaml has no writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISFIFO(mode):  # as `policy validate <(helm template …)` gives it
                os.set_blocking(descriptor, True)
            elif not stat.S_ISREG(mode):
                return Text(name, b"", "is not a file")
            return Text(name, file.read(GIVEN.octets + 1))
    except OSError as error:
        return Text(name, b"", f"cannot be read: {error.strerror}")


def _raise(error: OSError) -> None:
    raise CiliumpyError(f"cannot read {error.filename}: {error.strerror}", exit_code=2) from error
