/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that do not fit: nothing is ever cut into pieces on the way, the sender is told what fits instead. The lowest
 * MTU that any way from here is known to have stands in cp_pathmtu_v1; only what is larger is measured against its own.
 */
#pragma once

#include "config.h"
#include "events.h"
#include "icmp.h"
#include "ipcache.h"

#define FITS (-1)
#define ICMP_FRAGMENTATION_NEEDED 4
#define TCP_LEAST_HEADER 20
#define TCP_MOST_HEADER 60
#define UDP_HEADER 8

/* Around an IP packet: Ethernet, VXLAN, UDP and the outer IP header; the outer Ethernet header is no part of an MTU. */
#define TUNNEL_OVERHEAD(remote) (addr_is_ipv4(remote) ? 50 : 70)

/* A way that takes less than this is not supported. Smaller packets, most of all, are not looked at. */
#define LEAST_PATH_MTU 482 /* the 552 of which Linux believes no way has less, less the tunnel over IPv6 */

static __always_inline void lower_path_mtu(__u32 mtu)
{
	__u32 *lowest = bpf_map_lookup_elem(&cp_pathmtu_v1, &zero);

	if (mtu < LEAST_PATH_MTU)
		mtu = LEAST_PATH_MTU;
	if (lowest && (!*lowest || mtu < *lowest))
		*lowest = mtu;
}

/* Large enough to be measured? Of a segmented packet each segment goes on its own: the largest there can be counts. */
static __always_inline bool may_not_fit(const struct __sk_buff *skb, const struct packet *p, __u8 target)
{
	__u32 *lowest, limit, length = p->length;

	if (length <= LEAST_PATH_MTU || (target != TARGET_OVERLAY && target != TARGET_ROUTE))
		return false;
	lowest = bpf_map_lookup_elem(&cp_pathmtu_v1, &zero);
	limit = lowest && *lowest && *lowest < cfg_pod_mtu ? *lowest : cfg_pod_mtu;
	if (skb->gso_size)
		length = p->l4 - ETH_HLEN + TCP_MOST_HEADER + skb->gso_size;
	return length > limit;
}

/* Of what leaves us on its own: the packet, or each of its segments. */
static __always_inline __u32 segment_length(struct __sk_buff *skb, const struct packet *p)
{
	__u32 header = UDP_HEADER;
	__u8 offset;

	if (!skb->gso_size)
		return p->length;
	if (p->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, p->l4 + 12, &offset, 1))
			return p->length;
		header = (offset >> 4) * 4;
	}
	return p->l4 - ETH_HLEN + header + skb->gso_size;
}

/* What fits along the kernel's routes, what it has learned of them included; 0 if `length` does. */
static __always_inline __u32 route_takes(struct __sk_buff *skb, struct bpf_fib_lookup *fib, const struct addr *from,
					 const struct addr *to, __u32 length)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = cfg_netdev_ifindex;
	fib->tot_len = length > 0xffff ? 0xffff : length;
	if (addr_is_ipv4(to)) {
		fib->family = FAMILY_INET;
		fib->ipv4_src = addr_ipv4(from);
		fib->ipv4_dst = addr_ipv4(to);
	} else {
		fib->family = FAMILY_INET6;
		__builtin_memcpy(fib->ipv6_src, from, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, to, sizeof(fib->ipv6_dst));
	}
	return bpf_fib_lookup(skb, fib, sizeof(*fib), 0) == BPF_FIB_LKUP_RET_FRAG_NEEDED ? fib->mtu_result : 0;
}

/* The MTU that this packet is too big for; 0: it fits. */
static __always_inline __u32 exceeded_mtu(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;
	struct ct_half *half = &s->half;
	__u32 length = segment_length(skb, p), overhead, mtu;
	struct addr own;

	if (half->target == TARGET_ROUTE)
		return route_takes(skb, &s->fib, &p->saddr, &p->daddr, length);
	if (length > cfg_pod_mtu)
		return cfg_pod_mtu;
	overhead = TUNNEL_OVERHEAD(&half->to_tunnel.remote);
	if (addr_is_ipv4(&half->to_tunnel.remote))
		addr_from_config(&own, &cfg_node_ip4);
	else
		addr_from_config(&own, &cfg_node_ip6);
	mtu = route_takes(skb, &s->fib, &own, &half->to_tunnel.remote, length + overhead);
	return mtu > overhead ? mtu - overhead : mtu;
}

/* FITS, or the verdict: dropped, and its sender told. */
static __always_inline int refuse_too_big(struct __sk_buff *skb, struct scratch *s, const int family)
{
	struct packet *p = &s->packet;
	__u32 mtu = exceeded_mtu(skb, s);

	if (!mtu)
		return FITS;
	drop(p, REFUSE(p, FILE_MTU, DROP_TOO_BIG));
	if (family == IPV4)
		return answer4(skb, p, ICMP_MESSAGE(ICMP_DEST_UNREACH, ICMP_FRAGMENTATION_NEEDED), bpf_htonl(mtu));
	return answer6(skb, p, ICMP_MESSAGE(ICMPV6_PKT_TOOBIG, 0), bpf_htonl(mtu));
}

__attribute__((noinline)) int too_big4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? refuse_too_big(skb, s, IPV4) : TC_ACT_SHOT;
}

__attribute__((noinline)) int too_big6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? refuse_too_big(skb, s, IPV6) : TC_ACT_SHOT;
}

/*
 * A router tells this node that something it sent was too big: its stack takes note of it, and from now on we ask what
 * it knows. Whoever lies here costs us lookups.
 */
static __always_inline void hear_of_path_mtu(struct __sk_buff *skb, const struct packet *p, const int family)
{
	const __u16 what = ICMP_MESSAGE(p->sport, p->dport);
	__u32 mtu;

	if (what != (family == IPV4 ? ICMP_MESSAGE(ICMP_DEST_UNREACH, ICMP_FRAGMENTATION_NEEDED) :
				      ICMP_MESSAGE(ICMPV6_PKT_TOOBIG, 0)))
		return;
	if (!is_own(&p->daddr, ipcache_find(&p->daddr), family) || bpf_skb_load_bytes(skb, p->l4 + 4, &mtu, sizeof(mtu)))
		return;
	mtu = family == IPV4 ? bpf_ntohl(mtu) & 0xffff : bpf_ntohl(mtu);
	lower_path_mtu(mtu > 70 ? mtu - 70 : 0);
}
