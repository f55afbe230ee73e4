# SPDX-License-Identifier: Apache-2.0
"""Several files at once: all of them or none, also when the writer is killed in between.

    <store>/.changes/<n>      what is to become a file, complete
    <store>/.changes/<n>.old  what stood there, to be put back if a step fails
    <store>/.changes/plan     which <n> becomes which file, and which files go: from here on it will be done

Everything happens under the store's lock. Without a plan nothing was changed; with one, whoever takes the lock next
does what its writer did not come to.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.store.directory import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = ".changes"
_PLAN = "plan"
_log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """`target` below the store gets the file `number`; without one it is removed."""

    target: str
    number: str = ""


def commit(root: str, writes: Mapping[str, bytes], removals: Sequence[str]) -> None:
    """Write and remove files, given by their paths below the store. OSError: all is as it was."""
    folder = os.path.join(root, FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    steps = [_Step(target, str(n)) for n, target in enumerate(writes)] + [_Step(target) for target in removals]
    done: list[tuple[int, _Step]] = []
    try:
        for step in steps:
            if step.number:
                files.write_settled(os.path.join(folder, step.number), writes[step.target])
        for parent in dict.fromkeys(os.path.dirname(target) for target in writes):
            os.makedirs(os.path.join(root, parent), exist_ok=True)
        for n, step in enumerate(steps):
            with suppress(FileNotFoundError):
                os.link(os.path.join(root, step.target), os.path.join(folder, f"{n}.old"))
        files.write(os.path.join(folder, _PLAN), json.dumps(steps).encode(), replace=False)
        for n, step in enumerate(steps):
            done.append((n, step))
            _carry_out(root, folder, step)
    except BaseException:
        # What comes after an interrupted undoing would do the rest of the plan.
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, _PLAN))
        for n, step in reversed(done):
            _undo(root, folder, n, step)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _close(folder)


def recover(root: str) -> None:
    """Finish what the last writer had begun, for whoever has taken the lock; a file that resists is passed over."""
    folder = os.path.join(root, FOLDER)
    if not os.path.isdir(folder):
        return
    try:
        plan, _ = files.read(os.path.join(folder, _PLAN))
        steps = [_Step(*step) for step in json.loads(plan)]
    except (OSError, ValueError, TypeError):
        steps = []  # its writer had changed nothing yet
    for step in steps:
        try:
            _carry_out(root, folder, step)
        except FileNotFoundError:
            continue  # done before
        except OSError as error:
            _log.error("%s: an interrupted change cannot be finished: %s", step.target, error.strerror)
    if steps:
        _log.warning("finished an interrupted change of %d files", len(steps))
    _close(folder)


def _carry_out(root: str, folder: str, step: _Step) -> None:
    target = os.path.join(root, step.target)
    if step.number:
        os.replace(os.path.join(folder, step.number), target)
    else:
        os.unlink(target)
        with suppress(OSError):  # others are in it, or it is the folder of a kind
            if os.path.dirname(os.path.dirname(target)) != root:
                os.rmdir(os.path.dirname(target))


def _undo(root: str, folder: str, number: int, step: _Step) -> None:
    target, old = os.path.join(root, step.target), os.path.join(folder, f"{number}.old")
    try:
        if os.path.lexists(old):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(old, target)
        elif not os.path.lexists(os.path.join(folder, step.number)):
            os.unlink(target)
    except OSError as error:
        _log.error("%s: a change that failed cannot be undone: %s", target, error.strerror)


def _close(folder: str) -> None:
    """The plan goes first: a folder without one is no change that waits. One that stays is done again, to no effect."""
    with suppress(OSError):
        os.unlink(os.path.join(folder, _PLAN))
    shutil.rmtree(folder, ignore_errors=True)
