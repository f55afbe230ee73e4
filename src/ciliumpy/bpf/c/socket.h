/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pods' own sockets, and the host's where it is an endpoint. Rows can be lost, a table has only so much room; the pod still knows what it talks about. A TCP
 * packet without a row whose own direction is denied may pass if it is an answer to a connection that the receiving pod
 * began. That there is a connection does not say who began it, and a revoked one has sockets as well: so the socket of
 * whoever began is marked, when its flow is answered, and the mark lives and dies with the socket.
 */
#pragma once

#include "config.h"
#include "maps.h"

/* Of <netinet/tcp.h>. */
enum socket_state {
	SOCKET_SYN_SENT = 2,
	SOCKET_TIME_WAIT = 6,
	SOCKET_CLOSE = 7,
	SOCKET_LISTEN = 10,
};

struct socket_place {
	struct bpf_sock_tuple tuple;
	__u32 size;
	__u32 netns;
};

/* The socket of the pod at one end of the packet: its sender, or its receiver. */
static __always_inline bool place_socket(struct socket_place *place, const struct packet *p, bool sender, const int family)
{
	__u32 slot = sender ? p->src_slot : p->dst_slot;
	__u32 *netns = bpf_map_lookup_elem(&cp_podnet_v1, &slot);
	__u16 far = bpf_htons(sender ? p->dport : p->sport), near = bpf_htons(sender ? p->sport : p->dport);
	const struct addr *there = sender ? &p->daddr : &p->saddr, *here = sender ? &p->saddr : &p->daddr;

	if (cfg_host_firewall && slot == HOST_SLOT) {
		place->netns = BPF_F_CURRENT_NETNS;
	} else {
		if (!slot || !netns || !*netns)
			return false;
		place->netns = *netns - 1;
	}
	if (family == IPV4) {
		place->tuple.ipv4.saddr = addr_ipv4(there);
		place->tuple.ipv4.daddr = addr_ipv4(here);
		place->tuple.ipv4.sport = far;
		place->tuple.ipv4.dport = near;
		place->size = sizeof(place->tuple.ipv4);
	} else {
		__builtin_memcpy(place->tuple.ipv6.saddr, there, sizeof(place->tuple.ipv6.saddr));
		__builtin_memcpy(place->tuple.ipv6.daddr, here, sizeof(place->tuple.ipv6.daddr));
		place->tuple.ipv6.sport = far;
		place->tuple.ipv6.dport = near;
		place->size = sizeof(place->tuple.ipv6);
	}
	return true;
}

/* After the packet that made its flow an answered one: its sender began it. */
static __always_inline int mark_began(struct __sk_buff *skb, const int family)
{
	struct scratch *s = scratch_at_hand();
	struct socket_place place = {};
	struct bpf_sock *sk;
	__u32 began = 1;

	if (!s || !place_socket(&place, &s->packet, true, family))
		return 0;
	sk = bpf_sk_lookup_tcp(skb, &place.tuple, place.size, place.netns, 0);
	if (!sk)
		return 0;
	if (sk->state != SOCKET_LISTEN)
		bpf_sk_storage_get(&cp_began_v1, sk, &began, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_sk_release(sk);
	return 0;
}

/* Did the receiver begin the connection that this packet is of? */
static __always_inline int receiver_began(struct __sk_buff *skb, const int family)
{
	struct scratch *s = scratch_at_hand();
	struct socket_place place = {};
	struct bpf_sock *sk;
	__u32 state, began = 1;
	void *mark = NULL;

	if (!s || !place_socket(&place, &s->packet, false, family))
		return 0;
	sk = bpf_sk_lookup_tcp(skb, &place.tuple, place.size, place.netns, 0);
	if (!sk)
		return 0;
	state = sk->state;
	if (state == SOCKET_SYN_SENT) /* it has asked, and is to know later that it did */
		mark = bpf_sk_storage_get(&cp_began_v1, sk, &began, BPF_SK_STORAGE_GET_F_CREATE);
	else if (state != SOCKET_TIME_WAIT && state != SOCKET_CLOSE && state != SOCKET_LISTEN)
		mark = bpf_sk_storage_get(&cp_began_v1, sk, NULL, 0);
	bpf_sk_release(sk);
	return mark ? 1 : 0;
}

__attribute__((noinline)) int mark_began4(struct __sk_buff *skb)
{
	return mark_began(skb, IPV4);
}

__attribute__((noinline)) int mark_began6(struct __sk_buff *skb)
{
	return mark_began(skb, IPV6);
}

__attribute__((noinline)) int receiver_began4(struct __sk_buff *skb)
{
	return receiver_began(skb, IPV4);
}

__attribute__((noinline)) int receiver_began6(struct __sk_buff *skb)
{
	return receiver_began(skb, IPV6);
}

static __always_inline void note_who_began(struct __sk_buff *skb, const struct packet *p, const int family)
{
	if (p->protocol != IPPROTO_TCP || !(p->hook == HOOK_POD || (cfg_host_firewall && p->src_slot == HOST_SLOT)))
		return;
	if (family == IPV4)
		mark_began4(skb);
	else
		mark_began6(skb);
}
