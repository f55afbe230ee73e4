/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An ICMP error is related if the packet it carries was sent by the one it goes to, in a flow that has a row and may still
 * be; from a pod, if that packet was for this pod. The row is not touched. Every other error is judged like any packet.
 */
#pragma once

#include "conntrack.h"
#include "parse.h"
#include "policy.h"

/* The inner packet's key. Only the first 8 bytes of its transport header are there for certain. */
static __always_inline bool parse_inner(struct __sk_buff *skb, const struct packet *p, struct packet *inner,
					const int family)
{
	__u32 offset = p->l4 + sizeof(struct icmp_header);
	__u16 ports[4];

	if (family == IPV4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
		    ip.frag_off & bpf_htons(0x1fff))
			return false;
		addr_from_ipv4(&inner->saddr, ip.saddr);
		addr_from_ipv4(&inner->daddr, ip.daddr);
		inner->protocol = ip.protocol;
		offset += ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 6)
			return false;
		addr_from_ipv6(&inner->saddr, &ip.saddr);
		addr_from_ipv6(&inner->daddr, &ip.daddr);
		inner->protocol = ip.nexthdr;
		offset += sizeof(ip);
	}
	if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return false;
	if (inner->protocol == IPPROTO_TCP || inner->protocol == IPPROTO_UDP || inner->protocol == IPPROTO_SCTP) {
		inner->kind = KIND_PORTS;
		inner->sport = bpf_ntohs(ports[0]);
		inner->dport = bpf_ntohs(ports[1]);
		key_ports(inner, family, ports[0], ports[1]);
	} else if (inner->protocol == (family == IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		__u8 type = bpf_ntohs(ports[0]) >> 8;

		if (type != ICMP_ECHO_REQUEST(family) && type != ICMP_ECHO_ANSWER(family))
			return false;
		inner->kind = KIND_ECHO;
		key_echo(inner, family, ports[2], type == ICMP_ECHO_ANSWER(family));
	} else {
		return false;
	}
	key_kind(inner, family, inner->protocol, inner->kind);
	return true;
}

static __always_inline bool is_related(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s,
				       __u32 now)
{
	struct packet *inner = &s->inner;
	struct ct_row *row;
	struct ends ends;

	__builtin_memset(inner, 0, sizeof(*inner));
	if (!parse_inner(skb, p, inner, family) || !addr_equal(&inner->saddr, &p->daddr))
		return false;
	if (p->hook == HOOK_POD && !addr_equal(&inner->daddr, &p->saddr)) /* pods are nobody's routers */
		return false;
	row = bpf_map_lookup_elem(ct_map(family), &inner->key);
	if (!row || !ct_read(&s->old, row, ct_hash(&inner->key, family)) || ct_expired(s->old.expires, now) ||
	    ct_orphaned(&s->old))
		return false;
	ends = (struct ends){
		.src_slot = s->old.half[0].source_slot,
		.dst_slot = s->old.half[0].target_slot,
		.src_identity = s->old.src_identity,
		.dst_identity = s->old.dst_identity,
		.port = inner->kind == KIND_ECHO	    ? ICMP_ECHO_REQUEST(family) :
			inner->direction == s->old.origin ? inner->dport :
							    inner->sport,
		.protocol = inner->protocol,
		.from_host = s->old.half[0].source == HOOK_HOST && s->old.src_identity == IDENTITY_HOST,
	};
	return !judge(p, &ends, &p->egress, &p->ingress);
}
