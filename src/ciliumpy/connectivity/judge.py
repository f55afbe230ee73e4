# SPDX-License-Identifier: Apache-2.0
"""PURE: what an action came to against what was expected, by the client's answer and by the nodes' flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.connectivity.actor import ECHO_REQUEST
from ciliumpy.connectivity.plan import FORGE, Action
from ciliumpy.connectivity.seen import Conversation, Seen
from ciliumpy.model.drop_reasons import DROP_REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence


_SILENT = {"timeout", "unsent"}


def conversation(action: Action, answer: dict[str, Any]) -> Conversation:
    """Return the tuple of what the client has sent."""
    source = answer["source"] or (action.pretends or action.source).addresses[action.family]
    target = action.target.addresses[action.family]
    if action.protocol == "icmp":
        return Conversation(source, target, "icmp", 0, ECHO_REQUEST[action.family])
    return Conversation(source, target, action.protocol, answer["port"], action.port)


def nodes(action: Action) -> list[str]:
    """Return the nodes whose datapath an allowed packet crosses for certain: those of its pods."""
    return sorted({party.node for party in (action.source, action.target) if party.kind == "pod"})


def enough(action: Action, there: Conversation, flows: Sequence[Seen]) -> bool:
    """Whether the flows say all that is asked of them."""
    return not _flow_faults(action, there, flows)


def faults(action: Action, answer: dict[str, Any], flows: Sequence[Seen]) -> list[str]:
    """Return what is wrong, in words; nothing: all is as expected."""
    return client_faults(action, answer) + _flow_faults(action, conversation(action, answer), flows)


def client_faults(action: Action, answer: dict[str, Any]) -> list[str]:
    """Return what is wrong by the client's answer alone."""
    if action.verb == FORGE:
        heard = f"a datagram with the address of {action.pretends}, sent by {action.source}, has arrived"
        return [heard] if answer["ok"] else []
    if not action.expected.reason:
        return [] if answer["ok"] else [f"failed ({answer['how']}): {answer['error']}"]
    if answer["ok"]:
        return [f"succeeded, and should be denied at {action.expected.at}"]
    if answer["how"] not in _SILENT:  # an answer of any kind says that the packet has arrived
        return [f"ended with {answer['how']} ({answer['error']}) instead of silence: it was not dropped"]
    return []


def _flow_faults(action: Action, there: Conversation, flows: Sequence[Seen]) -> list[str]:
    if action.expected.reason:
        return _drop_faults(action, there, flows)
    found = [
        f"dropped at {flow.at or '?'} on node {flow.node}: {flow.reason_name} ({flow.conversation})"
        for flow in flows
        if flow.dropped
    ]
    said = {(flow.at, flow.node) for flow in flows if flow.audited}
    wanted = {(action.expected.at, _judge(action))} if action.expected.audited else set()
    found += [f"audited at {at or '?'} on node {node}, and should be allowed" for at, node in sorted(said - wanted)]
    if action.verb.startswith("use-"):  # a living flow is told of every few seconds only
        return found[:3]
    found += [f"no audited flow at {at} on node {node}" for at, node in wanted - said]
    seen = {flow.node for flow in flows if flow.forwarded and flow.conversation == there}
    return found[:3] + [f"no forwarded flow on node {node}" for node in nodes(action) if node not in seen]


def _drop_faults(action: Action, there: Conversation, flows: Sequence[Seen]) -> list[str]:
    wanted, at, _, wants = action.expected
    drops = [flow for flow in flows if flow.dropped]
    name, node = DROP_REASONS[wanted][0], _judge(action)
    right = [f for f in drops if f.reason == wanted and f.at == at and f.node == node and f.conversation == there]
    if right and not any(wants in flow.summary for flow in right):
        return [f"the drop's flow says {right[0].summary!r}, and not {wants!r}"]
    if right:
        return []
    if not drops:
        return [f"no drop was reported by node {node} ({name} at {at} was expected)"]
    other = sorted({f"{f.reason_name} at {f.at or '?'} on node {f.node}" for f in drops})
    return [f"dropped for another reason: {'; '.join(other)} ({name} at {at} on node {node} was expected)"]


def _judge(action: Action) -> str:
    """Return the node whose policy speaks of the action."""
    return action.source.node if action.expected.at == "egress" else action.target.node
