# SPDX-License-Identifier: Apache-2.0
"""Watching the folder: everything once, then every change, through whatever happens to the folder."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import TYPE_CHECKING

from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import DocumentError, parse
from ciliumpy.state.readable import Readable
from ciliumpy.store.directory import files
from ciliumpy.store.directory import kernel as k
from ciliumpy.store.directory.transaction import check_root
from ciliumpy.store.interface import Batch, Read, StoreState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DELETE_AFTER_S = 0.2
LOOK_EVERY_S = 1.0  # at the folder itself: nothing tells of a parent that was moved
SLICE_S = 0.0025  # of reading, before others get their turn
IN_THREAD = 65536  # bytes from which a file is parsed outside of the loop
POLL = Backoff(first_s=0.2, most_s=2.0)
OK = StoreState("ok")
UNREAD = files.Signature(0, 0, 0, 0)


class _RereadError(Exception):
    """Events were lost: look at everything again."""


class Watch:
    """One watcher's knowledge: which files it has given in which state. Kept while the folder cannot be read."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._given: dict[str, files.Signature] = {}
        self._unreadable: set[str] = set()
        self._state = StoreState("starting")
        self._synced = False

    async def batches(self) -> AsyncIterator[Batch]:
        """Give batches for ever; see interface.Store.watch."""
        failures = 0
        while True:
            try:
                async for batch in _Session(self).run():
                    failures = 0
                    yield batch
            except _RereadError:
                continue
            except (CiliumpyError, OSError) as error:
                message = error.message if isinstance(error, CiliumpyError) else _os_text(error)
                failures += 1
                state = StoreState("error", message)
                if state != self._state:
                    self._state = state
                    yield Batch((), state, self._synced)
            await asyncio.sleep(POLL.delay_s(max(failures, 1)))


class _Session:
    """From one opening of the folder to the moment it is lost."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._root = watch._root
        self._inotify: k.Inotify
        self._root_wd = -1
        self._folders: dict[int, str] = {}
        self._vanished: dict[str, float] = {}  # when to believe it
        self._unsettled: dict[str, float] = {}  # found, and perhaps still being written: when to look again
        self._gone: set[str] = set()  # believed, to be given as gone
        self._look_at = 0.0

    async def run(self) -> AsyncIterator[Batch]:
        check_root(self._root)
        self._identity = os.stat(self._root)
        try:
            self._inotify = k.Inotify()
        except OSError as error:
            raise CiliumpyError(
                f"cannot watch the store: {error.strerror}", "raise fs.inotify.max_user_instances"
            ) from None
        with self._inotify:
            news = Readable(self._inotify.fd)
            async for batch in self._scan():
                yield batch
            while True:
                timeout_s = max(
                    0.0, min([self._look_at, *self._vanished.values(), *self._unsettled.values()]) - time.monotonic()
                )
                try:
                    async with asyncio.timeout(timeout_s):
                        await news.wait()
                except TimeoutError:
                    pass
                async for batch in self._in_slices(self._news()):
                    yield batch

    async def _scan(self) -> AsyncIterator[Batch]:
        """Everything that differs from what was given before."""
        present: set[str] = set()

        def changed() -> Iterator[str]:
            yield from self._walk(self._root, present)
            for path in self._watch._given:
                if path not in present:
                    self._vanish(path)

        async for batch in self._in_slices(changed()):
            yield batch
        self._look_at = time.monotonic() + LOOK_EVERY_S
        if self._settled and not self._watch._synced:
            yield self._batch([], synced=True)
        elif self._watch._state != OK:
            yield self._batch([])

    async def _in_slices(self, paths: Iterator[str]) -> AsyncIterator[Batch]:
        reads: list[Read] = []
        lost: Exception | None = None
        began = time.monotonic()
        try:
            for path in paths:
                if path:
                    reads.extend(await self._read(path))
                if time.monotonic() - began > SLICE_S:
                    yield self._batch(reads)
                    reads = []
                    await asyncio.sleep(0)
                    began = time.monotonic()
        except (_RereadError, CiliumpyError, OSError) as error:
            lost = error
        if lost is not None:
            if reads:  # they count as given: give them before the folder is given up
                yield self._batch(reads)
            raise lost
        synced = self._settled and self._look_at > 0
        if reads or (synced and not self._watch._synced):
            yield self._batch(reads, synced=synced)

    def _batch(self, reads: list[Read], *, synced: bool = False) -> Batch:
        self._watch._state = OK
        self._watch._synced |= synced
        return Batch(reads, OK, self._watch._synced)

    @property
    def _settled(self) -> bool:
        return not self._vanished and not self._unsettled

    # What to look at. These give the paths to read, and empty text where others may have their turn.

    def _walk(self, folder: str, present: set[str]) -> Iterator[str]:
        """Watch a folder and all below; give the files that are new or have changed, sorted."""
        try:
            wd = self._inotify.add(folder)
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError:
            if folder == self._root:
                raise
            self._watch._unreadable.add(folder)
            present.update(self._below(folder))
            yield folder
            return
        except OSError as error:
            raise CiliumpyError(
                f"cannot watch {folder}: {error.strerror}", "raise fs.inotify.max_user_watches"
            ) from None
        self._folders[wd] = folder
        if folder == self._root:
            self._root_wd = wd
        if folder in self._watch._unreadable:
            yield folder
        for name in names:
            if name.startswith("."):
                continue
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(path, present)
            elif self._counts(path):
                present.add(path)
                yield self._found(path)

    def _found(self, path: str) -> str:
        """The file, if it is new and complete; one that may still be written is looked at again."""
        try:
            status = os.stat(path)
        except OSError:
            return path
        if stat.S_ISREG(status.st_mode) and not files.settled(status):
            self._unsettled[path] = time.monotonic() + DELETE_AFTER_S
            return ""
        return path if self._watch._given.get(path) != files.signature(status) else ""

    def _news(self) -> Iterator[str]:
        """The files that events and the clock name."""
        for event in self._inotify.read():
            yield from self._event(event)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._check_root()
            yield from self._readable_again()
        for path in _due(self._unsettled, now):
            yield self._found(path)
        for path in _due(self._vanished, now):
            # One that is back was announced when it was complete, or will be.
            if path in self._watch._given and not os.path.lexists(path):
                # A folder that was taken away deletes nothing: this raises before the file is given as gone.
                self._check_root()
                self._gone.add(path)
                yield path

    def _event(self, event: k.Event) -> Iterator[str]:
        if event.mask & k.OVERFLOW:
            raise _RereadError
        if event.mask & k.IGNORED:
            self._folders.pop(event.wd, None)
            return
        folder = self._folders.get(event.wd)
        if folder is None:
            return
        if event.wd == self._root_wd and event.mask & (k.DELETE_SELF | k.MOVE_SELF | k.UNMOUNT):
            self._check_root()
            raise _RereadError
        if not event.name:
            return
        path = os.path.join(folder, event.name)
        vanished = event.mask & (k.DELETE | k.MOVED_FROM)
        if path == os.path.join(self._root, files.MARKER) and vanished:
            self._check_root()
        elif event.mask & k.ISDIR:
            if vanished:
                self._unwatch(path)
                for below in self._below(path):
                    self._vanish(below)
            elif event.mask & (k.CREATE | k.MOVED_TO) and not event.name.startswith("."):
                yield from self._walk(path, set())
        elif self._counts(path):
            if vanished:
                self._unsettled.pop(path, None)
                self._vanish(path)
            elif event.mask & (k.CLOSE_WRITE | k.MOVED_TO) or self._is_link(path):
                self._unsettled.pop(path, None)
                yield path

    def _is_link(self, path: str) -> bool:
        """Whether what was created is another name for what exists: nobody will close it."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return stat.S_ISLNK(status.st_mode) or status.st_nlink > 1

    def _counts(self, path: str) -> bool:
        return files.counts(os.path.basename(path)) and path != os.path.join(self._root, files.MARKER)

    def _below(self, folder: str) -> list[str]:
        inside = folder + "/"
        return [
            path for known in (self._watch._given, self._watch._unreadable) for path in known if path.startswith(inside)
        ]

    def _unwatch(self, folder: str) -> None:
        for wd, path in list(self._folders.items()):
            if path == folder or path.startswith(folder + "/"):
                self._inotify.remove(wd)
                del self._folders[wd]

    def _vanish(self, path: str) -> None:
        self._vanished.setdefault(path, time.monotonic() + DELETE_AFTER_S)

    def _readable_again(self) -> Iterator[str]:
        """What could not be read, and nothing tells when it can."""
        for path in sorted(self._watch._unreadable):
            folder = os.path.isdir(path)
            if not os.path.lexists(path):
                yield path
            elif os.access(path, os.R_OK | os.X_OK if folder else os.R_OK, effective_ids=True):
                if folder:
                    raise _RereadError
                yield path

    def _check_root(self) -> None:
        check_root(self._root)
        if not os.path.samestat(os.stat(self._root), self._identity):
            raise _RereadError

    # Reading one file.

    async def _read(self, path: str) -> list[Read]:
        given, unreadable = self._watch._given, self._watch._unreadable
        try:
            data, signature = files.read(path)
        except (FileNotFoundError, NotADirectoryError):
            if path in given and path not in self._gone:
                self._vanish(path)
                return []
            self._gone.discard(path)
            known = given.pop(path, None) is not None or path in unreadable
            unreadable.discard(path)
            return [Read(_origin(path), None)] if known else []
        except OSError as error:
            given.setdefault(path, UNREAD)
            unreadable.add(path)
            return [Read(_origin(path), None, DocumentError(f"cannot be read: {error.strerror}"))]
        except DocumentError as error:
            return self._read_folder(path, error)
        given[path] = signature
        unreadable.discard(path)
        if _origin(path) != path:
            return [Read(_origin(path), None, DocumentError("has a name that is not UTF-8 text: rename it"))]
        try:
            documents = parse(data) if len(data) < IN_THREAD else await asyncio.to_thread(parse, data)
        except DocumentError as error:
            return [Read(path, None, error)]
        return [Read(path, tuple(documents))]

    def _read_folder(self, path: str, error: DocumentError) -> list[Read]:
        """A folder is read only to tell that it can, or cannot, be looked into."""
        if not os.path.isdir(path) or os.path.islink(path):
            self._watch._given.setdefault(path, UNREAD)
            return [Read(_origin(path), None, error)]
        self._watch._unreadable.discard(path)
        self._watch._given.pop(path, None)
        return [Read(_origin(path), None)]


def _due(waiting: dict[str, float], now: float) -> list[str]:
    due = sorted(path for path, at in waiting.items() if at <= now)
    for path in due:
        del waiting[path]
    return due


def _origin(path: str) -> str:
    """The path as text that can be written and sent: bytes that are no text are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _os_text(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
