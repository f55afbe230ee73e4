# SPDX-License-Identifier: Apache-2.0
"""What each drop reason that our datapath gives means, what causes it, and what to do.

A test holds it against the datapath's sources: every reason that they can give is here, and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

POD, OVERLAY, HOST, NETDEV = "pod", "overlay", "host", "netdev"
ALL = (POD, OVERLAY, HOST, NETDEV)


class Help(NamedTuple):
    """`programs`: those that drop so: at a pod's link, the tunnel, the host's link to pods, the native device."""

    meaning: str
    cause: str
    cure: str
    programs: tuple[str, ...]


DROP_HELP: Mapping[int, Help] = {
    132: Help(
        "The source address is not one that may come from there.",
        "A pod sends with an address that is not its own, a tunnel packet comes from another node than the one its "
        "sender is behind, or a pod's or the node's own address comes from outside.",
        "Look which address it is (`ciliumpy ip get ADDRESS`). A pod that forwards for others cannot: it may send with "
        "its own addresses only. Between nodes: compare `ciliumpy node list` on both.",
        ALL,
    ),
    133: Help(
        "No rule allows it, and policy is enforced in that direction.",
        "A policy selects the pod, and none of its rules names this peer and port.",
        "`ciliumpy bpf policy get ID` shows what decided, `ciliumpy observe --verdict DROPPED` who wanted to reach "
        "whom. Allow it in a policy, or leave it.",
        ALL,
    ),
    134: Help(
        "The packet's IP header is broken or does not belong to what carries it.",
        "A version, length or address that cannot be: a broken sender, or an attack.",
        "Capture at the sender. A sender that is all right has none of these.",
        ALL,
    ),
    135: Help(
        "The TCP, UDP, SCTP or ICMP header is cut off.",
        "A datagram shorter than its header, or a first fragment too small to hold it.",
        "Capture at the sender; tiny fragments are an attack or a broken tool.",
        ALL,
    ),
    136: Help(
        "The packet is larger than the way to its target takes.",
        "Its sender does not fragment, or must not, and its route's MTU is larger than the tunnel leaves room for.",
        "The sender was told (ICMP frag-needed, packet-too-big) and sends smaller ones. If it goes on: let ICMP errors "
        "reach it, or lower its MTU; `ciliumpy config explain network.mtu`.",
        ALL,
    ),
    137: Help(
        "A protocol that is neither TCP, UDP, SCTP nor ICMP.",
        "GRE, IPsec, OSPF or the like from or to a pod.",
        "There is no policy for it, so it is not let through; carry it in UDP, or run it on the host.",
        ALL,
    ),
    147: Help(
        "The kernel gave or took no tunnel key.",
        "A packet on the tunnel device that did not come through the tunnel, or a kernel that refuses the key.",
        "Nothing else may send on `cilium_vxlan`; look for another program or route on it.",
        (POD, OVERLAY, HOST),
    ),
    150: Help(
        "Nobody has the address that is asked for.",
        "A pod asks the link for another address than its gateway (ARP), or the host speaks to a group no pod hears.",
        "Harmless. It is counted and makes no event, but for a packet whose decision names no target.",
        ALL,
    ),
    151: Help(
        "The address belongs to the pods' network, and no pod has it.",
        "The pod has gone, and its peer still sends; or a node does not know yet where the pod is.",
        "`ciliumpy ip get ADDRESS` on both nodes. If the pod lives: `ciliumpy status` for what has not arrived.",
        (POD, OVERLAY, HOST),
    ),
    155: Help(
        "The flow's row could not be written.",
        "The kernel had no memory for it.",
        "`ciliumpy bpf map list` for what is full; raise `conntrack.entries`, or find who opens so many flows.",
        ALL,
    ),
    156: Help(
        "IPv6 extension headers that are not let through.",
        "Routing headers, large options, several fragment headers, or more headers than are walked over.",
        "A sender that needs them cannot have them here.",
        ALL,
    ),
    166: Help(
        "A frame that is neither IPv4, IPv6 nor ARP, or of a family that is off.",
        "A pod speaks another protocol, or one of a family that `network.ipv4` or `network.ipv6` switches off.",
        "Switch the family on, or stop the sender. Of the tunnel and the host it is counted and makes no event.",
        (POD, OVERLAY, HOST),
    ),
    169: Help(
        "The kernel has no route for it.",
        "The node has no route to the address, or forwarding is off on its device. The number behind the reason is the "
        "kernel's: 1 blackhole, 2 unreachable, 3 prohibited, 4 not forwarded, 5 forwarding is off.",
        "On the node: `ip route get ADDRESS`, and `sysctl net.ipv4.conf.DEVICE.forwarding`.",
        (POD, HOST),
    ),
    170: Help(
        "A pod speaks the tunnel's own protocol.",
        "UDP to `network.tunnelPort`: who could send that, could say that it is any pod.",
        "Use another port in the pod, or another for the tunnel on all nodes.",
        (POD,),
    ),
    171: Help(
        "A tunnel packet names an identity that no node may send.",
        "Its VNI is 0 or the host's: a sender that is no ciliumpy node, or a forgery.",
        "Look who sends UDP to the tunnel's port on the underlay.",
        (OVERLAY,),
    ),
    172: Help(
        "A tunnel packet from an address that is no node's.",
        "A node that this one does not know yet, one that has several addresses, or a forgery.",
        "`ciliumpy node list`: is the outer source there? `ciliumpy status` says whether the store is read.",
        (OVERLAY,),
    ),
    175: Help(
        "A later fragment, whose first nobody has seen.",
        "The first was lost, dropped, or came after it; or fragments of a flow go two ways.",
        "Fragments that come out of order are sent again by who sent them. Let the sender use smaller packets.",
        ALL,
    ),
    176: Help(
        "A neighbour or group message that has no business there.",
        "Router and group messages of a pod or of the stack, which nobody on the link answers; a solicitation for "
        "another than the gateway.",
        "Harmless: it is counted and makes no event.",
        (POD, OVERLAY, HOST),
    ),
    180: Help(
        "A rule allows it and wants it looked at (HTTP, DNS, server names, a listener), and there is no proxy here "
        "that does so.",
        "A policy has L7 rules or names a listener for this peer and port; the flow's summary says which.",
        "Allow the port without its L7 rules, or in audit mode: `ciliumpy endpoint config ID PolicyAuditMode=Enabled`. "
        "Other ports and peers of the policy are as it says.",
        ALL,
    ),
    181: Help(
        "A deny rule forbids it.",
        "A policy's `ingressDeny` or `egressDeny` names this peer and port; no allow rule outweighs it.",
        "`ciliumpy bpf policy get ID` shows the rule, `ciliumpy policy list` the policies.",
        ALL,
    ),
    182: Help(
        "A frame with a VLAN tag from a pod.",
        "A pod made a VLAN device.",
        "Pods have no VLANs here; remove the device.",
        (POD,),
    ),
    196: Help(
        "It has passed as many hops as it may.",
        "A loop between routers, or traceroute, which does it on purpose.",
        "The sender was told (ICMP time exceeded). If it is a loop: `ip route` on the nodes and in the world.",
        (POD, NETDEV),
    ),
    203: Help(
        "The pod is not ready, or no more.",
        "A packet comes from or to a pod that is being plugged in or taken away.",
        "If it stays: `ciliumpy endpoint list` for its state, `ciliumpy status` for what it waits for.",
        ALL,
    ),
}
