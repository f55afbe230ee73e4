/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An ICMP error is related if the packet it carries was sent by the one it goes to, in a flow that has a row and may still
 * be, and if it comes from where that packet went. One that carries what its receiver cannot have sent, or that comes from
 * elsewhere, is forged. The row is not touched. Errors about what has no row are judged like any packet.
 */
#pragma once

#include "conntrack.h"
#include "ipcache.h"
#include "parse.h"
#include "policy.h"

enum relation {
	UNRELATED = 0,
	RELATED = 1,
	FORGED = 2,
	ABOUT_THE_TUNNEL = 3, /* our own: it is never judged */
};

/* Over what may stand before the transport header of the packet that is carried; later fragments have none. */
static __always_inline bool skip_inner_extensions(struct __sk_buff *skb, struct packet *inner, __u32 *offset)
{
	struct fragment_header header;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		__u8 next = inner->protocol;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			return true;
		if (bpf_skb_load_bytes(skb, *offset, &header, sizeof(header)))
			return false;
		if (next == IPPROTO_FRAGMENT && header.offset & bpf_htons(0xfff8))
			return false;
		inner->protocol = header.next;
		*offset += next == IPPROTO_FRAGMENT ? sizeof(header) : (header.reserved + 1) * 8;
	}
	return true;
}

/* The inner packet's key. Only the first 8 bytes of its transport header are there for certain. */
static __always_inline bool parse_inner(struct __sk_buff *skb, const struct packet *p, struct packet *inner,
					const int family)
{
	__u32 offset = p->l4 + sizeof(struct icmp_header);
	__u16 words[4];

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
		__u8 head[8]; /* the addresses go where they belong at once: the stack is small */

		if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)) || head[0] >> 4 != 6 ||
		    bpf_skb_load_bytes(skb, offset + 8, &inner->saddr, sizeof(inner->saddr)) ||
		    bpf_skb_load_bytes(skb, offset + 24, &inner->daddr, sizeof(inner->daddr)))
			return false;
		inner->protocol = head[6];
		offset += sizeof(struct ipv6hdr);
		if (!skip_inner_extensions(skb, inner, &offset))
			return false;
	}
	if (bpf_skb_load_bytes(skb, offset, words, sizeof(words)))
		return false;
	if (inner->protocol == (family == IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		inner->sport = *(__u8 *)words;
	} else if (inner->protocol == IPPROTO_TCP || inner->protocol == IPPROTO_UDP || inner->protocol == IPPROTO_SCTP) {
		inner->sport = bpf_ntohs(words[0]);
		inner->dport = bpf_ntohs(words[1]);
	} else {
		return false;
	}
	classify(inner, family, words[0], words[1], words[2]);
	return true;
}

/* Only who had the packet can have found fault with it: the pod, what is behind the tunnel or the route, the stack. */
static __always_inline bool comes_from_its_way(const struct packet *p, const struct ct_half *half)
{
	switch (half->target) {
	case TARGET_LOCAL:
		return p->hook == HOOK_POD && p->ifindex == half->to_pod.ifindex;
	case TARGET_OVERLAY:
		return p->hook == HOOK_OVERLAY &&
		       is_tunnel_end(&p->outer, ipcache_find(&p->outer), &half->to_tunnel.remote);
	case TARGET_ROUTE: /* what another device than ours brings back, the stack forwards */
		return p->hook == HOOK_NETDEV || p->hook == HOOK_HOST;
	case TARGET_HOST:
		return p->hook == HOOK_HOST || p->hook == HOOK_UPLINK;
	}
	return false; /* nothing went that way yet */
}

/* What carries pods' packets between this node and one that we know. `own` and `other` are its ends. */
static __always_inline bool is_the_tunnels(const struct packet *p, const struct addr *own, const struct addr *other)
{
	return p->protocol == IPPROTO_UDP && p->dport == cfg_tunnel_port && !p->fragment &&
	       (addr_is(own, &cfg_node_ip4) || addr_is(own, &cfg_node_ip6)) && is_known_node(other);
}

/* Whose flow it is about; the row is left in s->old. May it still be? That is asked apart: a function takes much stack. */
static __always_inline enum relation relation_of(struct __sk_buff *skb, struct scratch *s, const int family)
{
	struct packet *p = &s->packet, *inner = &s->inner;
	struct ct_row *row;

	__builtin_memset(inner, 0, sizeof(*inner));
	if (!parse_inner(skb, p, inner, family) || inner->kind == KIND_ERROR)
		return cfg_host_firewall && p->dst_slot == HOST_SLOT ? UNRELATED : FORGED; /* the host speaks more than pods */
	if (!addr_equal(&inner->saddr, &p->daddr))
		return FORGED;
	if (p->hook == HOOK_POD && !addr_equal(&inner->daddr, &p->saddr)) /* pods are nobody's routers */
		return FORGED;
	if (cfg_host_firewall && p->hook == HOOK_NETDEV && is_the_tunnels(inner, &inner->saddr, &inner->daddr))
		return ABOUT_THE_TUNNEL;
	if (!KIND_HAS_ROW(inner->kind))
		return UNRELATED;
	row = ct_lookup(inner, family);
	if (!row || !ct_read(&s->old, row, ct_hash(&inner->key, family)) || ct_expired(s->old.expires, ct_now()) ||
	    ct_orphaned(&s->old))
		return UNRELATED;
	if (!comes_from_its_way(p, inner->direction != s->old.origin ? &s->old.half[1] : &s->old.half[0]))
		return FORGED;
	return RELATED;
}

/* Of one that is related. */
static __always_inline bool its_flow_may_be(struct packet *p, const struct scratch *s, const int family)
{
	const struct packet *inner = &s->inner;
	bool way = inner->direction != s->old.origin;
	struct ends ends = {
		.src_slot = s->old.half[0].source_slot,
		.dst_slot = s->old.half[0].target_slot,
		.src_identity = s->old.src_identity,
		.dst_identity = s->old.dst_identity,
		.port = inner->kind == KIND_ECHO ? ICMP_ECHO_REQUEST(family) : way ? inner->sport : inner->dport,
		.protocol = inner->protocol,
	};

	return !judge(p, &ends, &p->egress, &p->ingress);
}

/* Functions of their own: the verifier walks them once, not once for every way that leads here. */
__attribute__((noinline)) int relation4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? relation_of(skb, s, IPV4) : FORGED;
}

__attribute__((noinline)) int relation6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? relation_of(skb, s, IPV6) : FORGED;
}
