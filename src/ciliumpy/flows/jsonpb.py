# SPDX-License-Identifier: Apache-2.0
"""Messages as hubble's JSON: one compact line, proto names, fields as they are declared, 64 bits as text."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from ciliumpy.proto import flow_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

WIDE = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}
OTHER_EVENTS = {"agent_event", "debug_event"}  # of export files
# What Go's encoder writes as escapes, so that the text is safe inside HTML.
ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def to_json(message: Message) -> str:
    """Return one line without its end."""
    return json.dumps(_plain(message), ensure_ascii=False, separators=(",", ":")).translate(ESCAPES)


def parse_response(line: str | bytes) -> observer_pb2.GetFlowsResponse:
    """Read a line of `-o json`, of an exported file, or of the old form that was only the flow.

    Unknown fields are left out; of agent and debug events nothing is kept. Raises ValueError for what is no such line.
    """
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a bad line is a bad value, as everywhere in JSON
    response = observer_pb2.GetFlowsResponse()
    try:
        json_format.ParseDict(value, response, ignore_unknown_fields=True)
        if response.WhichOneof("response_types") is None:
            flow = json_format.ParseDict(value, flow_pb2.Flow(), ignore_unknown_fields=True)
            if flow.ListFields():
                response.flow.CopyFrom(flow)
                response.node_name = flow.node_name
                response.time.CopyFrom(flow.time)
            elif not OTHER_EVENTS & value.keys():
                raise ValueError("an object without any field of a flow")
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
    return response


def _plain(message: Message) -> Any:
    name = message.DESCRIPTOR.full_name
    if name.startswith("google.protobuf."):
        return json_format.MessageToDict(message, preserving_proto_field_name=True)
    order = _order(message.DESCRIPTOR)
    fields = sorted(message.ListFields(), key=lambda pair: order[pair[0].name][0])
    return {field.name: order[field.name][1](value) for field, value in fields}


@functools.cache
def _order(descriptor: Descriptor) -> dict[str, tuple[int, Callable[[Any], Any]]]:
    """Return place and converter of each field, by name."""
    return {field.name: (place, _converter(field)) for place, field in enumerate(descriptor.fields)}


def _converter(field: FieldDescriptor) -> Callable[[Any], Any]:
    one: Callable[[Any], Any]
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        one = lambda number: names.get(number, number)  # noqa: E731 - an unknown number stays a number
    elif field.message_type is not None:
        one = _plain
    elif field.type in WIDE:
        one = str
    else:
        return list if field.is_repeated else lambda value: value
    return (lambda values: [one(value) for value in values]) if field.is_repeated else one
