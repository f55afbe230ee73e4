# SPDX-License-Identifier: Apache-2.0
"""What agents send without an end: objects of several agents as they come, one after another."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

Came = tuple[str, dict[str, Any] | CiliumpyError | None]
"""The node, and an object of it, why it ended, or None: it ended."""


def streams(targets: Sequence[Target], path: str, what: str) -> Iterator[Came]:
    """Yield the objects that `path` streams at each agent until the last has ended; `what` they are, for errors."""
    inbox: queue.SimpleQueue[Came] = queue.SimpleQueue()

    def listen(each: Target) -> None:
        try:
            for text in AdminClient.of(each).stream(path):
                if text:
                    inbox.put((each.node, json.loads(text)))
        except CiliumpyError as error:
            inbox.put((each.node, error))
        except ValueError as error:
            inbox.put((each.node, CiliumpyError(f"the agent sent something that is no {what}: {error}")))
        inbox.put((each.node, None))

    for each in targets:
        threading.Thread(target=listen, args=(each,), daemon=True).start()
    running = len(targets)
    while running:
        came = inbox.get()
        running -= came[1] is None
        yield came


def greet(where: str, cpus: object, rings: object, size: object) -> None:
    """Say on stderr what a monitor listens to, in cilium's words."""
    sys.stderr.write(f"{where}Listening for events on {cpus} CPUs with {rings}x{size} of shared memory\n")
