import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from ciliumpy.proto import flow_pb2 as _flow_pb2
from ciliumpy.proto import drop_reason_pb2 as _drop_reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[EventType]
    EventSample: _ClassVar[EventType]
    RecordLost: _ClassVar[EventType]

class LostEventSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN_LOST_EVENT_SOURCE: _ClassVar[LostEventSource]
    PERF_EVENT_RING_BUFFER: _ClassVar[LostEventSource]
    OBSERVER_EVENTS_QUEUE: _ClassVar[LostEventSource]
    HUBBLE_RING_BUFFER: _ClassVar[LostEventSource]

class AgentEventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGENT_EVENT_UNKNOWN: _ClassVar[AgentEventType]
    AGENT_STARTED: _ClassVar[AgentEventType]
    POLICY_UPDATED: _ClassVar[AgentEventType]
    POLICY_DELETED: _ClassVar[AgentEventType]
    ENDPOINT_REGENERATE_SUCCESS: _ClassVar[AgentEventType]
    ENDPOINT_REGENERATE_FAILURE: _ClassVar[AgentEventType]
    ENDPOINT_CREATED: _ClassVar[AgentEventType]
    ENDPOINT_DELETED: _ClassVar[AgentEventType]
    IPCACHE_UPSERTED: _ClassVar[AgentEventType]
    IPCACHE_DELETED: _ClassVar[AgentEventType]
    SERVICE_UPSERTED: _ClassVar[AgentEventType]
    SERVICE_DELETED: _ClassVar[AgentEventType]

class DebugEventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DBG_EVENT_UNKNOWN: _ClassVar[DebugEventType]
    DBG_GENERIC: _ClassVar[DebugEventType]
    DBG_LOCAL_DELIVERY: _ClassVar[DebugEventType]
    DBG_ENCAP: _ClassVar[DebugEventType]
    DBG_LXC_FOUND: _ClassVar[DebugEventType]
    DBG_POLICY_DENIED: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP_REV: _ClassVar[DebugEventType]
    DBG_CT_MATCH: _ClassVar[DebugEventType]
    DBG_CT_CREATED: _ClassVar[DebugEventType]
    DBG_CT_CREATED2: _ClassVar[DebugEventType]
    DBG_ICMP6_HANDLE: _ClassVar[DebugEventType]
    DBG_ICMP6_REQUEST: _ClassVar[DebugEventType]
    DBG_ICMP6_NS: _ClassVar[DebugEventType]
    DBG_ICMP6_TIME_EXCEEDED: _ClassVar[DebugEventType]
    DBG_CT_VERDICT: _ClassVar[DebugEventType]
    DBG_DECAP: _ClassVar[DebugEventType]
    DBG_PORT_MAP: _ClassVar[DebugEventType]
    DBG_ERROR_RET: _ClassVar[DebugEventType]
    DBG_TO_HOST: _ClassVar[DebugEventType]
    DBG_TO_STACK: _ClassVar[DebugEventType]
    DBG_PKT_HASH: _ClassVar[DebugEventType]
    DBG_LB6_LOOKUP_FRONTEND: _ClassVar[DebugEventType]
    DBG_LB6_LOOKUP_FRONTEND_FAIL: _ClassVar[DebugEventType]
    DBG_LB6_LOOKUP_BACKEND_SLOT: _ClassVar[DebugEventType]
    DBG_LB6_LOOKUP_BACKEND_SLOT_SUCCESS: _ClassVar[DebugEventType]
    DBG_LB6_LOOKUP_BACKEND_SLOT_V2_FAIL: _ClassVar[DebugEventType]
    DBG_LB6_LOOKUP_BACKEND_FAIL: _ClassVar[DebugEventType]
    DBG_LB6_REVERSE_NAT_LOOKUP: _ClassVar[DebugEventType]
    DBG_LB6_REVERSE_NAT: _ClassVar[DebugEventType]
    DBG_LB4_LOOKUP_FRONTEND: _ClassVar[DebugEventType]
    DBG_LB4_LOOKUP_FRONTEND_FAIL: _ClassVar[DebugEventType]
    DBG_LB4_LOOKUP_BACKEND_SLOT: _ClassVar[DebugEventType]
    DBG_LB4_LOOKUP_BACKEND_SLOT_SUCCESS: _ClassVar[DebugEventType]
    DBG_LB4_LOOKUP_BACKEND_SLOT_V2_FAIL: _ClassVar[DebugEventType]
    DBG_LB4_LOOKUP_BACKEND_FAIL: _ClassVar[DebugEventType]
    DBG_LB4_REVERSE_NAT_LOOKUP: _ClassVar[DebugEventType]
    DBG_LB4_REVERSE_NAT: _ClassVar[DebugEventType]
    DBG_LB4_LOOPBACK_SNAT: _ClassVar[DebugEventType]
    DBG_LB4_LOOPBACK_SNAT_REV: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP4: _ClassVar[DebugEventType]
    DBG_RR_BACKEND_SLOT_SEL: _ClassVar[DebugEventType]
    DBG_REV_PROXY_LOOKUP: _ClassVar[DebugEventType]
    DBG_REV_PROXY_FOUND: _ClassVar[DebugEventType]
    DBG_REV_PROXY_UPDATE: _ClassVar[DebugEventType]
    DBG_L4_POLICY: _ClassVar[DebugEventType]
    DBG_NETDEV_IN_CLUSTER: _ClassVar[DebugEventType]
    DBG_NETDEV_ENCAP4: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP4_1: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP4_2: _ClassVar[DebugEventType]
    DBG_CT_CREATED4: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP6_1: _ClassVar[DebugEventType]
    DBG_CT_LOOKUP6_2: _ClassVar[DebugEventType]
    DBG_CT_CREATED6: _ClassVar[DebugEventType]
    DBG_SKIP_PROXY: _ClassVar[DebugEventType]
    DBG_L4_CREATE: _ClassVar[DebugEventType]
    DBG_IP_ID_MAP_FAILED4: _ClassVar[DebugEventType]
    DBG_IP_ID_MAP_FAILED6: _ClassVar[DebugEventType]
    DBG_IP_ID_MAP_SUCCEED4: _ClassVar[DebugEventType]
    DBG_IP_ID_MAP_SUCCEED6: _ClassVar[DebugEventType]
    DBG_LB_STALE_CT: _ClassVar[DebugEventType]
    DBG_INHERIT_IDENTITY: _ClassVar[DebugEventType]
    DBG_SK_LOOKUP4: _ClassVar[DebugEventType]
    DBG_SK_LOOKUP6: _ClassVar[DebugEventType]
    DBG_SK_ASSIGN: _ClassVar[DebugEventType]
    DBG_L7_LB: _ClassVar[DebugEventType]
    DBG_SKIP_POLICY: _ClassVar[DebugEventType]
    DBG_LB6_LOOPBACK_SNAT: _ClassVar[DebugEventType]
    DBG_LB6_LOOPBACK_SNAT_REV: _ClassVar[DebugEventType]
UNKNOWN: EventType
EventSample: EventType
RecordLost: EventType
UNKNOWN_LOST_EVENT_SOURCE: LostEventSource
PERF_EVENT_RING_BUFFER: LostEventSource
OBSERVER_EVENTS_QUEUE: LostEventSource
HUBBLE_RING_BUFFER: LostEventSource
AGENT_EVENT_UNKNOWN: AgentEventType
AGENT_STARTED: AgentEventType
POLICY_UPDATED: AgentEventType
POLICY_DELETED: AgentEventType
ENDPOINT_REGENERATE_SUCCESS: AgentEventType
ENDPOINT_REGENERATE_FAILURE: AgentEventType
ENDPOINT_CREATED: AgentEventType
ENDPOINT_DELETED: AgentEventType
IPCACHE_UPSERTED: AgentEventType
IPCACHE_DELETED: AgentEventType
SERVICE_UPSERTED: AgentEventType
SERVICE_DELETED: AgentEventType
DBG_EVENT_UNKNOWN: DebugEventType
DBG_GENERIC: DebugEventType
DBG_LOCAL_DELIVERY: DebugEventType
DBG_ENCAP: DebugEventType
DBG_LXC_FOUND: DebugEventType
DBG_POLICY_DENIED: DebugEventType
DBG_CT_LOOKUP: DebugEventType
DBG_CT_LOOKUP_REV: DebugEventType
DBG_CT_MATCH: DebugEventType
DBG_CT_CREATED: DebugEventType
DBG_CT_CREATED2: DebugEventType
DBG_ICMP6_HANDLE: DebugEventType
DBG_ICMP6_REQUEST: DebugEventType
DBG_ICMP6_NS: DebugEventType
DBG_ICMP6_TIME_EXCEEDED: DebugEventType
DBG_CT_VERDICT: DebugEventType
DBG_DECAP: DebugEventType
DBG_PORT_MAP: DebugEventType
DBG_ERROR_RET: DebugEventType
DBG_TO_HOST: DebugEventType
DBG_TO_STACK: DebugEventType
DBG_PKT_HASH: DebugEventType
DBG_LB6_LOOKUP_FRONTEND: DebugEventType
DBG_LB6_LOOKUP_FRONTEND_FAIL: DebugEventType
DBG_LB6_LOOKUP_BACKEND_SLOT: DebugEventType
DBG_LB6_LOOKUP_BACKEND_SLOT_SUCCESS: DebugEventType
DBG_LB6_LOOKUP_BACKEND_SLOT_V2_FAIL: DebugEventType
DBG_LB6_LOOKUP_BACKEND_FAIL: DebugEventType
DBG_LB6_REVERSE_NAT_LOOKUP: DebugEventType
DBG_LB6_REVERSE_NAT: DebugEventType
DBG_LB4_LOOKUP_FRONTEND: DebugEventType
DBG_LB4_LOOKUP_FRONTEND_FAIL: DebugEventType
DBG_LB4_LOOKUP_BACKEND_SLOT: DebugEventType
DBG_LB4_LOOKUP_BACKEND_SLOT_SUCCESS: DebugEventType
DBG_LB4_LOOKUP_BACKEND_SLOT_V2_FAIL: DebugEventType
DBG_LB4_LOOKUP_BACKEND_FAIL: DebugEventType
DBG_LB4_REVERSE_NAT_LOOKUP: DebugEventType
DBG_LB4_REVERSE_NAT: DebugEventType
DBG_LB4_LOOPBACK_SNAT: DebugEventType
DBG_LB4_LOOPBACK_SNAT_REV: DebugEventType
DBG_CT_LOOKUP4: DebugEventType
DBG_RR_BACKEND_SLOT_SEL: DebugEventType
DBG_REV_PROXY_LOOKUP: DebugEventType
DBG_REV_PROXY_FOUND: DebugEventType
DBG_REV_PROXY_UPDATE: DebugEventType
DBG_L4_POLICY: DebugEventType
DBG_NETDEV_IN_CLUSTER: DebugEventType
DBG_NETDEV_ENCAP4: DebugEventType
DBG_CT_LOOKUP4_1: DebugEventType
DBG_CT_LOOKUP4_2: DebugEventType
DBG_CT_CREATED4: DebugEventType
DBG_CT_LOOKUP6_1: DebugEventType
DBG_CT_LOOKUP6_2: DebugEventType
DBG_CT_CREATED6: DebugEventType
DBG_SKIP_PROXY: DebugEventType
DBG_L4_CREATE: DebugEventType
DBG_IP_ID_MAP_FAILED4: DebugEventType
DBG_IP_ID_MAP_FAILED6: DebugEventType
DBG_IP_ID_MAP_SUCCEED4: DebugEventType
DBG_IP_ID_MAP_SUCCEED6: DebugEventType
DBG_LB_STALE_CT: DebugEventType
DBG_INHERIT_IDENTITY: DebugEventType
DBG_SK_LOOKUP4: DebugEventType
DBG_SK_LOOKUP6: DebugEventType
DBG_SK_ASSIGN: DebugEventType
DBG_L7_LB: DebugEventType
DBG_SKIP_POLICY: DebugEventType
DBG_LB6_LOOPBACK_SNAT: DebugEventType
DBG_LB6_LOOPBACK_SNAT_REV: DebugEventType

class LostEvent(_message.Message):
    __slots__ = ("source", "num_events_lost", "cpu", "first", "last")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NUM_EVENTS_LOST_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    source: LostEventSource
    num_events_lost: int
    cpu: _wrappers_pb2.Int32Value
    first: _timestamp_pb2.Timestamp
    last: _timestamp_pb2.Timestamp
    def __init__(self, source: _Optional[_Union[LostEventSource, str]] = ..., num_events_lost: _Optional[int] = ..., cpu: _Optional[_Union[_wrappers_pb2.Int32Value, _Mapping]] = ..., first: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AgentEvent(_message.Message):
    __slots__ = ("type", "unknown", "agent_start", "policy_update", "endpoint_regenerate", "endpoint_update", "ipcache_update", "service_upsert", "service_delete")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    AGENT_START_FIELD_NUMBER: _ClassVar[int]
    POLICY_UPDATE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_REGENERATE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_UPDATE_FIELD_NUMBER: _ClassVar[int]
    IPCACHE_UPDATE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_UPSERT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_DELETE_FIELD_NUMBER: _ClassVar[int]
    type: AgentEventType
    unknown: AgentEventUnknown
    agent_start: TimeNotification
    policy_update: PolicyUpdateNotification
    endpoint_regenerate: EndpointRegenNotification
    endpoint_update: EndpointUpdateNotification
    ipcache_update: IPCacheNotification
    service_upsert: ServiceUpsertNotification
    service_delete: ServiceDeleteNotification
    def __init__(self, type: _Optional[_Union[AgentEventType, str]] = ..., unknown: _Optional[_Union[AgentEventUnknown, _Mapping]] = ..., agent_start: _Optional[_Union[TimeNotification, _Mapping]] = ..., policy_update: _Optional[_Union[PolicyUpdateNotification, _Mapping]] = ..., endpoint_regenerate: _Optional[_Union[EndpointRegenNotification, _Mapping]] = ..., endpoint_update: _Optional[_Union[EndpointUpdateNotification, _Mapping]] = ..., ipcache_update: _Optional[_Union[IPCacheNotification, _Mapping]] = ..., service_upsert: _Optional[_Union[ServiceUpsertNotification, _Mapping]] = ..., service_delete: _Optional[_Union[ServiceDeleteNotification, _Mapping]] = ...) -> None: ...

class AgentEventUnknown(_message.Message):
    __slots__ = ("type", "notification")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATION_FIELD_NUMBER: _ClassVar[int]
    type: str
    notification: str
    def __init__(self, type: _Optional[str] = ..., notification: _Optional[str] = ...) -> None: ...

class TimeNotification(_message.Message):
    __slots__ = ("time",)
    TIME_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PolicyUpdateNotification(_message.Message):
    __slots__ = ("labels", "revision", "rule_count")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RULE_COUNT_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    rule_count: int
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ..., rule_count: _Optional[int] = ...) -> None: ...

class EndpointRegenNotification(_message.Message):
    __slots__ = ("id", "labels", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    error: str
    def __init__(self, id: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ...) -> None: ...

class EndpointUpdateNotification(_message.Message):
    __slots__ = ("id", "labels", "error", "pod_name", "namespace")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    POD_NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    id: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    error: str
    pod_name: str
    namespace: str
    def __init__(self, id: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ..., pod_name: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class IPCacheNotification(_message.Message):
    __slots__ = ("cidr", "identity", "old_identity", "host_ip", "old_host_ip", "encrypt_key", "namespace", "pod_name")
    CIDR_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    OLD_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    HOST_IP_FIELD_NUMBER: _ClassVar[int]
    OLD_HOST_IP_FIELD_NUMBER: _ClassVar[int]
    ENCRYPT_KEY_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_NAME_FIELD_NUMBER: _ClassVar[int]
    cidr: str
    identity: int
    old_identity: _wrappers_pb2.UInt32Value
    host_ip: str
    old_host_ip: str
    encrypt_key: int
    namespace: str
    pod_name: str
    def __init__(self, cidr: _Optional[str] = ..., identity: _Optional[int] = ..., old_identity: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ..., host_ip: _Optional[str] = ..., old_host_ip: _Optional[str] = ..., encrypt_key: _Optional[int] = ..., namespace: _Optional[str] = ..., pod_name: _Optional[str] = ...) -> None: ...

class ServiceUpsertNotificationAddr(_message.Message):
    __slots__ = ("ip", "port")
    IP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ip: str
    port: int
    def __init__(self, ip: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class ServiceUpsertNotification(_message.Message):
    __slots__ = ("id", "frontend_address", "backend_addresses", "type", "traffic_policy", "name", "namespace", "ext_traffic_policy", "int_traffic_policy")
    ID_FIELD_NUMBER: _ClassVar[int]
    FRONTEND_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_POLICY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EXT_TRAFFIC_POLICY_FIELD_NUMBER: _ClassVar[int]
    INT_TRAFFIC_POLICY_FIELD_NUMBER: _ClassVar[int]
    id: int
    frontend_address: ServiceUpsertNotificationAddr
    backend_addresses: _containers.RepeatedCompositeFieldContainer[ServiceUpsertNotificationAddr]
    type: str
    traffic_policy: str
    name: str
    namespace: str
    ext_traffic_policy: str
    int_traffic_policy: str
    def __init__(self, id: _Optional[int] = ..., frontend_address: _Optional[_Union[ServiceUpsertNotificationAddr, _Mapping]] = ..., backend_addresses: _Optional[_Iterable[_Union[ServiceUpsertNotificationAddr, _Mapping]]] = ..., type: _Optional[str] = ..., traffic_policy: _Optional[str] = ..., name: _Optional[str] = ..., namespace: _Optional[str] = ..., ext_traffic_policy: _Optional[str] = ..., int_traffic_policy: _Optional[str] = ...) -> None: ...

class ServiceDeleteNotification(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class DebugEvent(_message.Message):
    __slots__ = ("type", "source", "hash", "arg1", "arg2", "arg3", "message", "cpu")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    ARG1_FIELD_NUMBER: _ClassVar[int]
    ARG2_FIELD_NUMBER: _ClassVar[int]
    ARG3_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    type: DebugEventType
    source: _flow_pb2.Endpoint
    hash: _wrappers_pb2.UInt32Value
    arg1: _wrappers_pb2.UInt32Value
    arg2: _wrappers_pb2.UInt32Value
    arg3: _wrappers_pb2.UInt32Value
    message: str
    cpu: _wrappers_pb2.Int32Value
    def __init__(self, type: _Optional[_Union[DebugEventType, str]] = ..., source: _Optional[_Union[_flow_pb2.Endpoint, _Mapping]] = ..., hash: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ..., arg1: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ..., arg2: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ..., arg3: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ..., message: _Optional[str] = ..., cpu: _Optional[_Union[_wrappers_pb2.Int32Value, _Mapping]] = ...) -> None: ...
