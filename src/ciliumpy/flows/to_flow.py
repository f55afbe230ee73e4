# SPDX-License-Identifier: Apache-2.0
"""Rows become flow.Flow messages, field by field as Hubble fills them. Only rows that passed a filter come here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.flows import columns
from ciliumpy.flows.columns import ip_text
from ciliumpy.flows.l4 import fill_l4
from ciliumpy.flows.names import wanted
from ciliumpy.flows.source_files import source_file
from ciliumpy.proto import event_pb2, flow_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ciliumpy.flows.columns import Rows
    from ciliumpy.flows.names import Names, PolicyName

EMITTER = "Hubble"
API_VERSION = "1.19.4"  # of Hubble, whose wire format this is

TRACE_REASONS: tuple[flow_pb2.TraceReason, ...] = (
    flow_pb2.NEW,
    flow_pb2.ESTABLISHED,
    flow_pb2.REPLY,
    flow_pb2.RELATED,
    flow_pb2.REOPENED,
    flow_pb2.TRACE_REASON_UNKNOWN,
)
"""By the datapath's number."""


class FlowMaker:
    """Makes messages of one node's rows. Messages of rows that look alike share their parsed parts."""

    def __init__(self, names: Names, node_name: str, node_labels: tuple[str, ...] = ()) -> None:
        self.names = names
        self.node_name = node_name
        self._common = flow_pb2.Flow(
            emitter=flow_pb2.Emitter(name=EMITTER, version=API_VERSION),
            Type=flow_pb2.L3_L4,
            node_name=node_name,
            node_labels=node_labels,
        )
        self._ends: dict[tuple[int, int, int], flow_pb2.Endpoint] = {}

    def responses(self, rows: Rows) -> Iterator[observer_pb2.GetFlowsResponse]:
        """Yield a response for each row of dtype FLOW, losses included."""
        for row in rows:
            if row["event_type"] == columns.LOST:
                yield self._loss(row)
            else:
                response = observer_pb2.GetFlowsResponse(node_name=self.node_name)
                self.fill(response.flow, row)
                response.time.CopyFrom(response.flow.time)
                yield response

    def flow(self, row: Any) -> flow_pb2.Flow:
        made = flow_pb2.Flow()
        self.fill(made, row)
        return made

    def fill(self, flow: flow_pb2.Flow, row: Any) -> None:
        """Write a row of dtype FLOW into an empty message."""
        # item() gives Python numbers, once; reading columns one by one costs more than all the rest.
        value = dict(zip(row.dtype.names, row.item(), strict=True))
        flow.CopyFrom(self._common)
        flow.time.FromNanoseconds(value["time"])
        flow.uuid = uuid_text(value["ktime"], value["cpu"], value["seq"], value["part"])
        flow.verdict = value["verdict"]
        flow.IP.source = ip_text(value["src_hi"], value["src_lo"], value["ipv6"])
        flow.IP.destination = ip_text(value["dst_hi"], value["dst_lo"], value["ipv6"])
        flow.IP.ipVersion = flow_pb2.IPv6 if value["ipv6"] else flow_pb2.IPv4
        flow.Summary = fill_l4(
            flow.l4, value["protocol"], value["sport"], value["dport"], value["tcp_flags"], value["ipv6"]
        )
        flow.source.CopyFrom(self._end(value["src_party"], value["src_identity"], value["src_endpoint"]))
        flow.destination.CopyFrom(self._end(value["dst_party"], value["dst_identity"], value["dst_endpoint"]))
        flow.event_type.type = value["event_type"]
        flow.event_type.sub_type = value["sub_type"]
        flow.traffic_direction = value["direction"]
        if value["reply"] >= 0:
            flow.is_reply.value = bool(value["reply"])
            flow.reply = bool(value["reply"])
        if value["event_type"] == columns.TRACE:
            flow.trace_observation_point = value["sub_type"] or flow_pb2.TO_ENDPOINT
            flow.trace_reason = TRACE_REASONS[value["trace_reason"]]
            if value["ifindex"]:
                flow.interface.index = value["ifindex"]
                flow.interface.name = self.names.interfaces.get(value["ifindex"], "")
        elif value["event_type"] == columns.DROP:
            if value["file"]:
                flow.file.name = source_file(value["file"])
                flow.file.line = value["line"]
        elif value["event_type"] == columns.POLICY_VERDICT:
            flow.policy_match_type = value["match"]
        if value["reason"]:
            flow.drop_reason = value["reason"]
            flow.drop_reason_desc = value["reason"]
        verb = "denied" if value["verdict"] in (columns.DROPPED, columns.AUDIT) else "allowed"
        for leg in ("egress", "ingress"):
            if number := value[f"{leg}_rules"]:
                deciding = self.names.rules[number]
                getattr(flow, f"{leg}_{verb}_by").extend(policy_message(name) for name in deciding)
                flow.Summary += "".join(f"; {text}" for text in wanted(deciding))
                flow.policy_log.extend(log for name in deciding for log in name.logs if log not in flow.policy_log)

    def _end(self, party_id: int, identity: int, endpoint: int) -> flow_pb2.Endpoint:
        key = (party_id, identity, endpoint)
        made = self._ends.get(key)
        if made is None:
            if len(self._ends) > 10_000:
                self._ends.clear()
            party = self.names.parties[party_id]
            made = flow_pb2.Endpoint(
                ID=endpoint,
                identity=identity,
                cluster_name=party.cluster,
                namespace=party.namespace,
                labels=party.labels,
                pod_name=party.pod,
            )
            if party.workload_name:
                made.workloads.add(name=party.workload_name, kind=party.workload_kind)
            self._ends[key] = made
        return made

    def _loss(self, row: Any) -> observer_pb2.GetFlowsResponse:
        response = observer_pb2.GetFlowsResponse(node_name=self.node_name)
        response.time.FromNanoseconds(int(row["time"]))
        ring = row["sub_type"] == columns.LOST_IN_HISTORY
        response.lost_events.source = event_pb2.HUBBLE_RING_BUFFER if ring else event_pb2.PERF_EVENT_RING_BUFFER
        response.lost_events.num_events_lost = int(row["ktime"])
        response.lost_events.cpu.value = int(row["cpu"])
        return response


def policy_message(policy: PolicyName) -> flow_pb2.Policy:
    labels = [f"k8s:io.cilium.k8s.policy.derived-from={policy.kind}", f"k8s:io.cilium.k8s.policy.name={policy.name}"]
    if policy.namespace:
        labels.append(f"k8s:io.cilium.k8s.policy.namespace={policy.namespace}")
    return flow_pb2.Policy(
        name=policy.name, namespace=policy.namespace, labels=labels, revision=policy.revision, kind=policy.kind
    )


def uuid_text(ktime: int, cpu: int, seq: int, part: int) -> str:
    """Return the id of a flow: a version 4 UUID that holds when and where the kernel made the record.

    48 bits of ktime, version, part, a zero byte, variant, 14 bits of CPU number, 48 bits of sequence.
    """
    text = f"{ktime & 0xFFFF_FFFF_FFFF:012x}4{part:x}00{0x8000 | cpu & 0x3FFF:04x}{seq:012x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_uuid(text: str) -> tuple[int, int, int, int] | None:
    """Return lower 48 bits of ktime, CPU, sequence and part of an id that `uuid_text` could have made, else None."""
    digits = text.replace("-", "")
    if len(digits) != 32 or digits[12] != "4" or not all(c in "0123456789abcdef" for c in digits):
        return None
    found = int(digits[:12], 16), int(digits[16:20], 16) & 0x3FFF, int(digits[20:], 16), int(digits[13], 16)
    return found if found[2] < 1 << 32 and uuid_text(*found) == text else None
