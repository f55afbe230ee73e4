# SPDX-License-Identifier: Apache-2.0
"""Frames built and read by hand: Ethernet, IPv4/6, TCP, UDP, ICMP, ARP and neighbour discovery, checksums included."""

from __future__ import annotations

import ipaddress
import struct

ETH_IPV4, ETH_IPV6, ETH_ARP, ETH_VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
ICMP, TCP, UDP, SCTP, FRAGMENT, HOPOPTS, ROUTING, ICMPV6 = 1, 6, 17, 132, 44, 0, 43, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
IP_HEADER = {4: 20, 6: 40}
ETH_LENGTH = 14


def family(address: str) -> int:
    return ipaddress.ip_address(address).version


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(src: str, dst: str, protocol: int, length: int) -> bytes:
    if family(src) == 4:
        return packed(src) + packed(dst) + struct.pack("!BBH", 0, protocol, length)
    return packed(src) + packed(dst) + struct.pack("!II", length, protocol)


def eth(dst: str, src: str, kind: int, payload: bytes) -> bytes:
    return mac(dst) + mac(src) + struct.pack("!H", kind) + payload


def ip(src: str, dst: str, protocol: int, payload: bytes, *, ttl: int = 64, fragment: int = 0) -> bytes:
    """`fragment`: the IPv4 flags-and-offset word (0x2000: more fragments)."""
    if family(src) == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + packed(src) + packed(dst) + payload
    head = (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, ttl, protocol, 0) + packed(src) + packed(dst)
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def _with_checksum(segment: bytes, at: int, src: str, dst: str, protocol: int) -> bytes:
    value = checksum(pseudo(src, dst, protocol, len(segment)) + segment)
    return segment[:at] + struct.pack("!H", value) + segment[at + 2 :]


def tcp(src: str, dst: str, sport: int, dport: int, flags: int = ACK, data: bytes = b"", **options: int) -> bytes:
    segment = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 5 << 4, flags, 1000, 0, 0) + data
    return ip(src, dst, TCP, _with_checksum(segment, 16, src, dst, TCP), **options)


def udp(src: str, dst: str, sport: int, dport: int, data: bytes = b"hello", **options: int) -> bytes:
    datagram = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return ip(src, dst, UDP, _with_checksum(datagram, 6, src, dst, UDP), **options)


def fragment(whole: bytes, first: int, last: int | None = None, *, number: int = 9) -> bytes:
    """The piece of an IP packet's payload from byte `first` to `last` (None: its end), both multiples of 8."""
    part, more = whole[IP_HEADER[whole[0] >> 4] :][first:last], last is not None
    if whole[0] >> 4 == 6:
        header = struct.pack("!BBHI", whole[6], 0, first | more, number)
        return whole[:4] + struct.pack("!HB", len(part) + 8, FRAGMENT) + whole[7:40] + header + part
    head = whole[:2] + struct.pack("!HHH", 20 + len(part), number, first // 8 | more << 13) + whole[8:10] + b"\0\0"
    head += whole[12:20]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + part


def icmp(src: str, dst: str, kind: int, code: int = 0, rest: bytes = b"\0\0\0\0", data: bytes = b"", **o: int) -> bytes:
    message = struct.pack("!BBH", kind, code, 0) + rest + data
    if family(src) == 6:
        return ip(src, dst, ICMPV6, _with_checksum(message, 2, src, dst, ICMPV6), **o)
    return ip(src, dst, ICMP, message[:2] + struct.pack("!H", checksum(message)) + message[4:], **o)


def echo(src: str, dst: str, number: int, *, answer: bool = False, data: bytes = b"payload!", **options: int) -> bytes:
    kind = {(4, False): 8, (4, True): 0, (6, False): 128, (6, True): 129}[family(src), answer]
    return icmp(src, dst, kind, 0, struct.pack("!HH", number, 1), data, **options)


def unreachable(src: str, dst: str, inner: bytes) -> bytes:
    """Port unreachable about `inner`, of which the IP header and 8 bytes are quoted."""
    quoted = inner[: IP_HEADER[family(dst)] + 8]
    return icmp(src, dst, *((3, 3) if family(src) == 4 else (1, 4)), data=quoted)


def arp_request(sender_mac: str, sender: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, 1) + mac(sender_mac) + packed(sender) + b"\0" * 6 + packed(target)
    return eth("ff:ff:ff:ff:ff:ff", sender_mac, ETH_ARP, body)


def neighbour_solicitation(sender_mac: str, sender: str, target: str, *, hops: int = 255, option: bool = True) -> bytes:
    group = str(
        ipaddress.ip_address(int(ipaddress.ip_address("ff02::1:ff00:0")) | packed(target)[-1] | packed(target)[-2] << 8)
    )
    data = packed(target) + (b"\x01\x01" + mac(sender_mac) if option else b"")
    return eth("33:33:ff:00:00:01", sender_mac, ETH_IPV6, icmp(sender, group, 135, data=data, ttl=hops))


class Read:
    """A frame taken apart: `eth_dst`, `eth_src`, `kind`; for IP `src`, `dst`, `protocol`, `ttl`, `payload`."""

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.eth_dst, self.eth_src = frame[:6].hex(":"), frame[6:12].hex(":")
        self.kind = int.from_bytes(frame[12:14], "big")
        body = frame[14:]
        if self.kind == ETH_IPV4:
            self.header = body[: (body[0] & 15) * 4]
            self.ttl, self.protocol = body[8], body[9]
            self.src, self.dst = (str(ipaddress.ip_address(body[at : at + 4])) for at in (12, 16))
            self.payload = body[len(self.header) : int.from_bytes(body[2:4], "big")]
        elif self.kind == ETH_IPV6:
            self.header = body[:40]
            self.protocol, self.ttl = body[6], body[7]
            self.src, self.dst = (str(ipaddress.ip_address(body[at : at + 16])) for at in (8, 24))
            self.payload = body[40 : 40 + int.from_bytes(body[4:6], "big")]
        else:
            self.payload = body

    @property
    def sums_right(self) -> bool:
        """IPv4 header and transport checksums."""
        if self.kind == ETH_IPV4 and checksum(self.header):
            return False
        if self.kind == ETH_IPV4 and self.protocol == ICMP:
            return checksum(self.payload) == 0
        return checksum(pseudo(self.src, self.dst, self.protocol, len(self.payload)) + self.payload) == 0
