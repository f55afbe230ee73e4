# SPDX-License-Identifier: Apache-2.0
"""What the nodes' flows say: every flow of the run's namespaces, from each node's Hubble server, as it comes.

A reader waits for a condition on the flows of one conversation, never for a time.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.flows.columns import POLICY_VERDICT
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.drop_reasons import DROP_REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ciliumpy.client.observer import Feed, Response, Server
    from ciliumpy.proto.flow_pb2 import Flow

FORWARDED, DROPPED, AUDIT = 1, 2, 4  # flow.Verdict
_INGRESS, _EGRESS = 1, 2  # flow.TrafficDirection
_ANSWER = {8: 0, 0: 8, 128: 129, 129: 128}  # types of echoes


class Conversation(NamedTuple):
    """The tuple of a packet as its sender has it. For ICMP the last number is the type: Hubble tells no more."""

    source: str
    target: str
    protocol: str
    sport: int = 0
    dport: int = 0

    @property
    def back(self) -> Conversation:
        if self.protocol == "icmp":
            return Conversation(self.target, self.source, self.protocol, 0, _ANSWER.get(self.dport, self.dport))
        return Conversation(self.target, self.source, self.protocol, self.dport, self.sport)

    def __str__(self) -> str:
        ends = [f"[{a}]" if ":" in a else a for a in (self.source, self.target)]
        if self.protocol == "icmp":
            return f"icmp {ends[0]} -> {ends[1]} type {self.dport}"
        ports = [f":{n}" if n else "" for n in (self.sport, self.dport)]
        return f"{self.protocol} {ends[0]}{ports[0]} -> {ends[1]}{ports[1]}"


class Seen(NamedTuple):
    """A flow, as far as it matters here."""

    order: int  # of arrival
    time_ns: int
    node: str
    conversation: Conversation
    forwarded: bool
    dropped: bool
    reason: int
    at: str  # ingress, egress or nothing
    reply: bool
    audited: bool = False
    summary: str = ""
    response: Response | None = None  # as it came

    @property
    def reason_name(self) -> str:
        return DROP_REASONS.get(self.reason, (str(self.reason), ""))[0]

    @property
    def text(self) -> str:
        """The line that `observe` prints."""
        import io

        from ciliumpy.flows.printers import Printer, Style

        output = io.StringIO()
        printer = Printer("compact", Style(node_name=True, policy_names=True), output, output)
        if self.response is not None:
            printer.write(self.response)
        printer.close()
        return output.getvalue().rstrip("\n")


class Telescope:
    """Follows all servers until it is closed. `failed` names the nodes that have stopped to answer, with the reason.

    It sees what pods of the namespaces and what nodes and the outside, by their addresses, say to each other.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        namespaces: Sequence[str],
        since_ns: int,
        *,
        nodes: Sequence[str] = (),
        outside: Sequence[str] = (),
    ) -> None:
        from ciliumpy.client.observer import Feed
        from ciliumpy.proto.observer_pb2 import GetFlowsRequest

        request = GetFlowsRequest(follow=True)
        request.since.FromNanoseconds(since_ns)
        prefixes = [f"{namespace}/" for namespace in namespaces]
        request.whitelist.add(source_pod=prefixes)
        request.whitelist.add(destination_pod=prefixes)
        if nodes and outside:
            request.whitelist.add(source_ip=outside, destination_ip=nodes)
            request.whitelist.add(source_ip=nodes, destination_ip=outside)
        self._news = threading.Condition()
        self._flows: list[Seen] = []
        self._by: dict[Conversation, list[Seen]] = {}
        self._lost = 0
        self._closing = False
        self.failed: dict[str, str] = {}
        self._feeds = [Feed(server, request) for server in servers]
        self._threads = [threading.Thread(target=self._follow, args=(feed,), daemon=True) for feed in self._feeds]
        for thread in self._threads:
            thread.start()

    @property
    def arrived(self) -> int:
        """How many flows have come so far: a mark for `of`."""
        return len(self._flows)

    @property
    def lost(self) -> int:
        """How many events the nodes say they have lost."""
        return self._lost

    def drops(self) -> list[Seen]:
        with self._news:
            return [flow for flow in self._flows if flow.dropped]

    def of(self, conversation: Conversation, mark: int = 0) -> list[Seen]:
        """Return the conversation's flows, both ways, that have come since the mark; oldest first."""
        with self._news:
            return self._of(conversation, mark)

    def wait(
        self, conversation: Conversation, mark: int, enough: Callable[[list[Seen]], bool], timeout_s: float
    ) -> list[Seen]:
        """Return the conversation's flows as soon as they are enough, or when the time is up, or a node is lost."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while not enough(found := self._of(conversation, mark)):
                left = deadline - time.monotonic()
                if left <= 0 or self.failed:
                    break
                self._news.wait(left)
            return found

    def _of(self, conversation: Conversation, mark: int) -> list[Seen]:
        there, back = self._by.get(conversation, []), self._by.get(conversation.back, [])
        return sorted((flow for flow in there + back if flow.order >= mark), key=lambda f: f.time_ns)

    def _follow(self, feed: Feed) -> None:
        try:
            for response in feed:
                self._take(feed.name, response)
            why = "it has ended its answer"
        except CiliumpyError as error:
            why = error.message
        except Exception as error:  # noqa: BLE001 - a thread's end must be seen
            why = f"{type(error).__name__}: {error}"
        with self._news:
            if not self._closing:
                self.failed[feed.name] = why
            self._news.notify_all()

    def _take(self, node: str, response: Response) -> None:
        if response.WhichOneof("response_types") == "lost_events":
            self._lost += response.lost_events.num_events_lost
            return
        flow = response.flow
        with self._news:
            seen = Seen(
                order=len(self._flows),
                time_ns=flow.time.ToNanoseconds(),
                node=node,
                conversation=conversation_of(flow),
                forwarded=flow.verdict == FORWARDED,
                dropped=flow.verdict == DROPPED and flow.event_type.type != POLICY_VERDICT,  # which comes beside it
                reason=flow.drop_reason_desc,
                at={_INGRESS: "ingress", _EGRESS: "egress"}.get(flow.traffic_direction, ""),
                reply=flow.is_reply.value,
                audited=flow.verdict == AUDIT,
                summary=flow.Summary,
                response=response,
            )
            self._flows.append(seen)
            self._by.setdefault(seen.conversation, []).append(seen)
            self._news.notify_all()

    def close(self) -> None:
        self._closing = True
        for feed in self._feeds:
            feed.close()
        for thread in self._threads:
            thread.join(5.0)


def conversation_of(flow: Flow) -> Conversation:
    """PURE: the tuple of a flow's packet."""
    ends = flow.IP.source, flow.IP.destination
    layer = flow.l4.WhichOneof("protocol") or ""
    if layer in ("TCP", "UDP", "SCTP"):
        ports = getattr(flow.l4, layer)
        return Conversation(*ends, layer.lower(), ports.source_port, ports.destination_port)
    if layer.startswith("ICMP"):
        return Conversation(*ends, "icmp", 0, getattr(flow.l4, layer).type)
    return Conversation(*ends, layer.lower())
