/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of a packet that goes on: to a pod, into the tunnel, up the stack, along the kernel's routes. */
#pragma once

#include "conntrack.h"
#include "encap.h"
#include "icmp.h"
#include "mtu.h"

/* One hop less, where we forward as a router would: from pods and from the native network. */
static __always_inline int decrement_ttl(struct __sk_buff *skb, const int family, const __u32 hook)
{
	void *data, *end;

	if (family == IPV6 && hook == HOOK_NETDEV) { /* hardware may have summed the whole packet */
		__u8 hops;

		if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, hop_limit), &hops, 1))
			return -1;
		hops--;
		return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, hop_limit), &hops, 1,
					   BPF_F_RECOMPUTE_CSUM);
	}
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (family == IPV4) {
		struct iphdr *ip = data + ETH_HLEN;
		__u32 check;

		if ((void *)(ip + 1) > end)
			return -1;
		check = ip->check + (__u32)bpf_htons(0x0100);
		ip->check = check + (check >= 0xffff);
		ip->ttl--;
	} else {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return -1;
		ip->hop_limit--;
	}
	return 0;
}

static __always_inline int to_pod(struct __sk_buff *skb, struct packet *p, const struct ct_half *half)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + ETH_HLEN > end)
		return drop(p, REFUSE(p, FILE_DELIVER, DROP_INVALID));
	__builtin_memcpy(data, half->to_pod.dmac, 2 * ETH_ALEN);
	skb->mark = 0;
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	AT_HANDED_OVER(skb);
	/* Only an ingress hook can cross into the pod at once, and only where there is a border to cross. */
	if (half->flags & HALF_SAME_NETNS || p->hook == HOOK_HOST)
		return bpf_redirect(half->to_pod.ifindex, 0);
	return bpf_redirect_peer(half->to_pod.ifindex, 0);
}

static __always_inline int to_host(struct __sk_buff *skb, const struct packet *p)
{
	if (p->hook == HOOK_NETDEV) /* it is on its way there */
		return TC_ACT_OK;
	if (skb->pkt_type != PACKET_HOST) /* the tunnel takes inner frames for somebody else's */
		bpf_skb_change_type(skb, PACKET_HOST);
	AT_HANDED_OVER(skb);
	return TC_ACT_OK;
}

static __always_inline int to_route(const struct ct_half *half)
{
	struct bpf_redir_neigh neigh = {};

	if (addr_is_zero(&half->to_route.nexthop))
		return bpf_redirect_neigh(half->to_route.ifindex, NULL, 0, 0);
	if (addr_is_ipv4(&half->to_route.nexthop)) {
		neigh.nh_family = FAMILY_INET;
		neigh.ipv4_nh = addr_ipv4(&half->to_route.nexthop);
	} else {
		neigh.nh_family = FAMILY_INET6;
		__builtin_memcpy(neigh.ipv6_nh, &half->to_route.nexthop, sizeof(neigh.ipv6_nh));
	}
	return bpf_redirect_neigh(half->to_route.ifindex, &neigh, sizeof(neigh), 0);
}

static __always_inline __u8 target_flag(__u8 target)
{
	switch (target) {
	case TARGET_LOCAL:
		return EVENT_TO_LOCAL;
	case TARGET_OVERLAY:
		return EVENT_TO_OVERLAY;
	case TARGET_HOST:
		return EVENT_TO_HOST;
	case TARGET_ROUTE:
		return EVENT_TO_NETWORK;
	}
	return 0;
}

static __always_inline bool loses_a_hop(const struct packet *p, __u8 target)
{
	return (p->hook == HOOK_POD || p->hook == HOOK_NETDEV) && target != TARGET_HOST;
}

static __always_inline int deliver(struct __sk_buff *skb, struct packet *p, const struct ct_half *half, const int family)
{
	if (p->hook == HOOK_UPLINK) { /* likewise, and the stack has measured it */
		count_metric(0, EGRESS, p->length);
		return TC_ACT_OK;
	}
	if (may_not_fit(skb, p, half->target)) {
		int verdict = family == IPV4 ? too_big4(skb) : too_big6(skb);

		if (verdict != FITS)
			return verdict;
	}
	if (loses_a_hop(p, half->target)) {
		if (p->ttl <= 1)
			return time_exceeded(skb, p, family);
		if (decrement_ttl(skb, family, p->hook))
			return drop(p, REFUSE(p, FILE_DELIVER, DROP_INVALID));
	}
	count_metric(0, p->hook == HOOK_POD || half->target == TARGET_OVERLAY ? EGRESS : INGRESS, p->length);
	switch (half->target) {
	case TARGET_LOCAL:
		return to_pod(skb, p, half);
	case TARGET_OVERLAY:
		return to_overlay(skb, p, half);
	case TARGET_HOST:
		return to_host(skb, p);
	case TARGET_ROUTE:
		return to_route(half);
	}
	return drop(p, REFUSE(p, FILE_DELIVER, DROP_UNKNOWN_TARGET));
}
