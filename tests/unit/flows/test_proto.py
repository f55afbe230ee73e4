# SPDX-License-Identifier: Apache-2.0
"""The wire format: what is committed is what the compiler makes of the .proto files, and the names are Hubble's."""

from __future__ import annotations

from ciliumpy.model.drop_reasons import DROP_REASONS
from ciliumpy.proto import flow_pb2, health_pb2, observer_pb2, peer_pb2, relay_pb2
from tests.generate_proto import SOURCE, generate


def test_the_generated_code_is_that_of_the_proto_files(tmp_path):
    generate(tmp_path)
    made = {path.name: path.read_text() for path in (tmp_path / "ciliumpy/proto").iterdir()}
    committed = {path.name: path.read_text() for path in (SOURCE / "ciliumpy/proto").glob("*_pb2.py*")}
    assert sorted(made) == sorted(committed)
    assert made == committed


def test_full_names_and_numbers_are_hubbles():
    service = observer_pb2.DESCRIPTOR.services_by_name["Observer"]
    assert service.full_name == "observer.Observer"
    assert [method.name for method in service.methods] == [
        "GetFlows",
        "GetAgentEvents",
        "GetDebugEvents",
        "GetNodes",
        "GetNamespaces",
        "ServerStatus",
    ]
    assert health_pb2.DESCRIPTOR.services_by_name["Health"].full_name == "grpc.health.v1.Health"
    assert peer_pb2.DESCRIPTOR.services_by_name["Peer"].full_name == "peer.Peer"
    assert relay_pb2.NodeStatusEvent.DESCRIPTOR.full_name == "relay.NodeStatusEvent"
    numbers = {field.name: field.number for field in flow_pb2.Flow.DESCRIPTOR.fields}
    assert numbers["IP"] == 5
    assert numbers["Type"] == 10
    assert numbers["Summary"] == 100000
    assert numbers["drop_reason_desc"] == 25
    assert numbers["ingress_denied_by"] == 21005
    assert list(numbers)[:6] == ["time", "uuid", "emitter", "verdict", "drop_reason", "auth_type"]
    assert flow_pb2.TraceObservationPoint.Value("TO_ENDPOINT") == 101
    assert len(flow_pb2.FlowFilter.DESCRIPTOR.fields) == 41


def test_a_flow_has_the_bytes_of_the_wire_format():
    flow = flow_pb2.Flow(verdict=2, drop_reason_desc=133, source=flow_pb2.Endpoint(ID=7, pod_name="a"))
    flow.is_reply.value = False
    # tag 2 varint 2; tag 8 length 5 {1: 7, 5: "a"}; tag 25 varint 133; tag 26 empty BoolValue
    assert flow.SerializeToString() == bytes.fromhex("1002420508072a0161c8018501d20100")


def test_every_reason_has_the_name_of_the_interface():
    known = dict(zip(flow_pb2.DropReason.values(), flow_pb2.DropReason.keys(), strict=True))
    assert {number: name for number, (name, _) in DROP_REASONS.items() if number < 206} == known
