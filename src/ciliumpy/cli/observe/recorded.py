# SPDX-License-Identifier: Apache-2.0
"""Flows from a file, in the form of `-o json`, with the same filters: no agent, no root."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.proto.observer_pb2 import GetFlowsRequest, GetFlowsResponse

MOST = 1_000_000


class Recording:
    """A file of JSON lines. `bad` counts the lines that are no flows; each is told on stderr."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bad = 0

    def select(self, request: GetFlowsRequest) -> Iterator[GetFlowsResponse]:
        """Yield what the request asks for, in the order of the file."""
        if not request.field_mask.paths:
            yield from self._chosen(request)
            return
        from ciliumpy.flows.fieldmask import FieldMask, masked

        mask = FieldMask(request.field_mask.paths)
        for response in self._chosen(request):
            yield masked(mask, response)

    def _chosen(self, request: GetFlowsRequest) -> Iterator[GetFlowsResponse]:
        if request.first or not request.number or request.number > MOST:
            wanted = request.number or None
            for response in self._matching(request):
                yield response
                if wanted is not None and response.HasField("flow"):
                    wanted -= 1
                    if wanted <= 0:
                        return
        else:
            yield from deque(self._matching(request), maxlen=request.number)

    def _matching(self, request: GetFlowsRequest) -> Iterator[GetFlowsResponse]:
        from ciliumpy.flows.match import FlowPredicate

        wanted = FlowPredicate(request.whitelist, request.blacklist)
        since = request.since.ToNanoseconds() if request.HasField("since") else None
        until = request.until.ToNanoseconds() if request.HasField("until") else None
        for response in self._responses():
            if response.HasField("flow"):
                when = response.flow.time.ToNanoseconds()
                if (since is not None and when < since) or (until is not None and when > until):
                    continue
                if not wanted(response.flow):
                    continue
            yield response

    def _responses(self) -> Iterator[GetFlowsResponse]:
        from ciliumpy.flows.jsonpb import parse_response

        for number, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            try:
                yield parse_response(line)
            except ValueError as error:
                self.bad += 1
                reason = str(error).partition("\n")[0]
                sys.stderr.write(f"{self.path}:{number}: not a flow: {reason}\n")

    def _lines(self) -> Iterable[str]:
        if self.path == "-":
            yield from sys.stdin
            return
        try:
            with Path(self.path).open(encoding="utf-8", errors="replace") as file:
                yield from file
        except OSError as error:
            raise CiliumpyError(f"{self.path} cannot be read: {error.strerror}") from error
