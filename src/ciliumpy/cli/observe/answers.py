# SPDX-License-Identifier: Apache-2.0
"""What a request is answered by: the agents, or a file of recorded flows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from ciliumpy.cli.observe.recorded import Recording

if TYPE_CHECKING:
    from ciliumpy.client.target import Target
    from ciliumpy.proto.observer_pb2 import GetFlowsRequest, GetFlowsResponse


def replay(path: str, request: GetFlowsRequest, write: Callable[[GetFlowsResponse], None]) -> int:
    """Print recorded flows; return how many lines were none."""
    recording = Recording(path)
    for response in recording.select(request):
        write(response)
    return recording.bad


def show(
    request: GetFlowsRequest,
    targets: Sequence[Target],
    write: Callable[[GetFlowsResponse], None],
    *,
    flush: bool,
    errors: TextIO | None,
) -> int:
    """Print what the nodes answer; return how many did not. Each is a line on `errors`."""
    failed = 0
    for response in _ask(request, targets):
        if isinstance(response, tuple):
            failed += 1
            if errors is not None:
                errors.write(f"Error: node {response[0]}: {response[1]}\n")
            continue
        write(response)
        if flush:
            sys.stdout.flush()
    return failed


def _ask(request: GetFlowsRequest, targets: Sequence[Target]) -> Iterator[GetFlowsResponse | tuple[str, str]]:
    """Yield the flows of all nodes that are meant, and (node, reason) for those that do not answer."""
    from ciliumpy.client.observer import Server, get_flows

    failures: list[tuple[str, str]] = []
    servers = [Server(each.node, str(each.hubble_socket)) for each in targets]
    for response in get_flows(servers, request, lambda name, reason: failures.append((name, reason))):
        yield from failures
        failures.clear()
        yield response
    yield from failures
