# SPDX-License-Identifier: Apache-2.0
"""Which fields of a flow a client wants: paths of flow.Flow by proto name, a parent wins over its children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto import flow_pb2, observer_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

Tree = dict[str, "Tree"]
"""Wanted fields; an empty subtree is the whole field."""


class FieldMask:
    """Copies the wanted fields. CiliumpyError for a path that flows do not have."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._tree: Tree = {}
        whole: set[str] = set()
        for path in sorted(paths):  # a parent comes before its children
            if any(path.startswith(f"{parent}.") for parent in whole):
                continue
            _validate(path)
            whole.add(path)
            tree = self._tree
            for name in path.split("."):
                tree = tree.setdefault(name, {})

    def apply(self, flow: flow_pb2.Flow) -> flow_pb2.Flow:
        """Return a flow that has nothing but the wanted fields."""
        masked = flow_pb2.Flow()
        _copy(self._tree, flow, masked)
        return masked


def masked(mask: FieldMask, response: observer_pb2.GetFlowsResponse) -> observer_pb2.GetFlowsResponse:
    """Return the response with the wanted fields of its flow; what holds no flow stays as it is.

    As in Hubble, node and time of the response are those of the masked flow: empty where the mask leaves them out.
    """
    if not response.HasField("flow"):
        return response
    flow = mask.apply(response.flow)
    made = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name)
    if flow.HasField("time"):
        made.time.CopyFrom(flow.time)
    return made


def _validate(path: str) -> None:
    descriptor: Any = flow_pb2.Flow.DESCRIPTOR  # of protobuf's two implementations, either
    for name in path.split("."):
        field = descriptor.fields_by_name.get(name) if descriptor is not None else None
        if field is None:
            raise CiliumpyError(f'invalid field mask: flows have no field "{path}"', exit_code=2)
        descriptor = None if field.is_repeated else field.message_type


def _copy(tree: Tree, source: Message, target: Message) -> None:
    for field, value in source.ListFields():
        if field.name not in tree:
            continue
        children = tree[field.name]
        if children:
            getattr(target, field.name).SetInParent()
            _copy(children, value, getattr(target, field.name))
        elif field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
