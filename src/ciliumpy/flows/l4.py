# SPDX-License-Identifier: Apache-2.0
"""Layer 4 as Hubble and the monitor word it: flags, ICMP types and codes, the summary of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ciliumpy.proto import flow_pb2

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
SUMMARY_ORDER = ("SYN", "ACK", "RST", "FIN", "PSH", "URG", "ECE", "CWR")
FLAG_BITS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}

ICMP_TYPES = {
    0: "EchoReply",
    3: "DestinationUnreachable",
    4: "SourceQuench",
    5: "Redirect",
    8: "EchoRequest",
    9: "RouterAdvertisement",
    10: "RouterSolicitation",
    11: "TimeExceeded",
    12: "ParameterProblem",
    13: "TimestampRequest",
    14: "TimestampReply",
}
ICMP_CODES = {
    (3, 0): "Net",
    (3, 1): "Host",
    (3, 2): "Protocol",
    (3, 3): "Port",
    (3, 4): "FragmentationNeeded",
    (3, 13): "CommAdminProhibited",
    (11, 0): "TTLExceeded",
    (11, 1): "FragmentReassemblyTimeExceeded",
}
ICMPV6_TYPES = {
    1: "DestinationUnreachable",
    2: "PacketTooBig",
    3: "TimeExceeded",
    4: "ParameterProblem",
    128: "EchoRequest",
    129: "EchoReply",
    133: "RouterSolicitation",
    134: "RouterAdvertisement",
    135: "NeighborSolicitation",
    136: "NeighborAdvertisement",
    137: "Redirect",
}
ICMPV6_CODES = {
    (1, 0): "NoRouteToDst",
    (1, 1): "AdminProhibited",
    (1, 3): "Address",
    (1, 4): "Port",
    (3, 0): "HopLimitExceeded",
    (3, 1): "FragmentReassemblyTimeExceeded",
}


def fill_l4(l4: flow_pb2.Layer4, protocol: int, sport: int, dport: int, tcp_flags: int, ipv6: int) -> str:
    """Write ports, flags, ICMP type and code; return the flow's summary. Other protocols have no layer 4."""
    if protocol == TCP:
        l4.TCP.source_port = sport
        l4.TCP.destination_port = dport
        l4.TCP.flags.SetInParent()
        for name, bit in FLAG_BITS.items():
            if tcp_flags & bit:
                setattr(l4.TCP.flags, name, True)
        return "TCP Flags: " + ", ".join(name for name in SUMMARY_ORDER if tcp_flags & FLAG_BITS[name])
    if protocol == UDP:
        l4.UDP.source_port = sport
        l4.UDP.destination_port = dport
        l4.UDP.SetInParent()
        return "UDP"
    if protocol == SCTP:
        l4.SCTP.source_port = sport
        l4.SCTP.destination_port = dport
        l4.SCTP.SetInParent()
        return "SCTP"
    if protocol == ICMP:
        l4.ICMPv4.type = sport
        l4.ICMPv4.code = dport
        l4.ICMPv4.SetInParent()
        return "ICMPv4 " + icmp_text(sport, dport, ICMP_TYPES, ICMP_CODES)
    if protocol == ICMPV6:
        l4.ICMPv6.type = sport
        l4.ICMPv6.code = dport
        l4.ICMPv6.SetInParent()
        return "ICMPv6 " + icmp_text(sport, dport, ICMPV6_TYPES, ICMPV6_CODES)
    return "IPv6" if ipv6 else "IPv4"


def l4_words(protocol: int, sport: int, dport: int, tcp_flags: int) -> tuple[str, str]:
    """Return a protocol's name and what is known of the packet beyond its ports."""
    if protocol == TCP:
        return "tcp", ", ".join(name for name in SUMMARY_ORDER if tcp_flags & FLAG_BITS[name])
    if protocol == ICMP:
        return "icmp", icmp_text(sport, dport, ICMP_TYPES, ICMP_CODES)
    if protocol == ICMPV6:
        return "icmpv6", icmp_text(sport, dport, ICMPV6_TYPES, ICMPV6_CODES)
    return {UDP: "udp", SCTP: "sctp"}.get(protocol, str(protocol)), ""


def icmp_text(kind: int, code: int, types: dict[int, str], codes: dict[tuple[int, int], str]) -> str:
    """Return `EchoRequest`, `DestinationUnreachable(Port)`, or the numbers where there is no name."""
    name = types.get(kind)
    if name is None:
        return f"{kind}({code})"
    detail = codes.get((kind, code))
    if detail is not None:
        return f"{name}({detail})"
    return name if code == 0 else f"{name}(Code: {code})"
