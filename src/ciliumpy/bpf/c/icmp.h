/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers of a router, back to where the packet came from: "time exceeded" here, "too big" in mtu.h. */
#pragma once

#include "config.h"
#include "events.h"

#define QUOTED 32 /* bytes quoted after the IP header: enough for every transport header's checksum field */
#define ICMP_TTL 64

static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + ((sum >> 32) & 0xffff) + (sum >> 48);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

/* What follows the Ethernet header. */
struct answer4 {
	struct iphdr ip;
	struct icmp_header icmp;
	__u8 quoted[sizeof(struct iphdr) + QUOTED];
};

struct answer6 {
	struct ipv6hdr ip;
	struct icmp_header icmp;
	__u8 quoted[sizeof(struct ipv6hdr) + QUOTED];
};

#define ICMP_MESSAGE(type, code) ((type) | (code) << 8)

/* Nobody is told of an error about an error, or about a fragment whose ports it does not have. */
static __always_inline bool unanswerable(const struct packet *p)
{
	return p->kind == KIND_ERROR || p->fragment == FRAGMENT_LATER;
}

/* Back to where it came from: into the pod, or up the stack, which believes no packet that has its own address. */
static __always_inline int send_back(struct __sk_buff *skb, const struct packet *p)
{
	skb->mark = 0;
	return bpf_redirect(skb->ifindex, p->hook == HOOK_HOST ? BPF_F_INGRESS : 0);
}

/*
 * The packet, which was dropped, becomes the answer: ICMP_MESSAGE `what` with `rest` of its header, in network order.
 * Packets with IP options get none.
 */
__attribute__((noinline)) int answer4(struct __sk_buff *skb, struct packet *p, __u32 what, __u32 rest)
{
	struct answer4 *f;
	struct ethhdr *eth;
	struct addr router;

	if (!p || p->l4 != ETH_HLEN + sizeof(struct iphdr) || unanswerable(p))
		return TC_ACT_SHOT;
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(f->quoted), 0) ||
	    bpf_skb_adjust_room(skb, sizeof(f->ip) + sizeof(f->icmp), BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*f)))
		return TC_ACT_SHOT;
	eth = (void *)(long)skb->data;
	f = (void *)(eth + 1);
	if ((void *)(f + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	swap_macs(eth);
	__builtin_memset(&f->ip, 0, sizeof(f->ip) + sizeof(f->icmp));
	f->ip.version = 4;
	f->ip.ihl = 5;
	f->ip.tot_len = bpf_htons(sizeof(*f));
	f->ip.ttl = ICMP_TTL;
	f->ip.protocol = IPPROTO_ICMP;
	addr_from_config(&router, &cfg_router_ip4);
	f->ip.saddr = p->hook == HOOK_HOST ? addr_ipv4(&p->daddr) : addr_ipv4(&router);
	f->ip.daddr = addr_ipv4(&p->saddr);
	f->ip.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&f->ip, sizeof(f->ip), 0));
	f->icmp.type = what;
	f->icmp.code = what >> 8;
	f->icmp.rest = rest;
	f->icmp.checksum =
		csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&f->icmp, sizeof(f->icmp) + sizeof(f->quoted), 0));
	return send_back(skb, p);
}

/* Sum of the pseudo header of an ICMPv6 message of `length` bytes. */
static __always_inline __u64 icmp6_pseudo(struct ipv6hdr *ip, __u32 length)
{
	__be32 tail[2] = { bpf_htonl(length), bpf_htonl(IPPROTO_ICMPV6) };
	__u64 sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr), 0);

	return bpf_csum_diff(NULL, 0, tail, sizeof(tail), sum);
}

__attribute__((noinline)) int answer6(struct __sk_buff *skb, struct packet *p, __u32 what, __u32 rest)
{
	const __u32 length = sizeof(struct answer6) - sizeof(struct ipv6hdr);
	struct answer6 *f;
	struct ethhdr *eth;
	__u64 sum;

	if (!p || unanswerable(p))
		return TC_ACT_SHOT;
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(f->quoted), 0) ||
	    bpf_skb_adjust_room(skb, sizeof(f->ip) + sizeof(f->icmp), BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*f)))
		return TC_ACT_SHOT;
	eth = (void *)(long)skb->data;
	f = (void *)(eth + 1);
	if ((void *)(f + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	swap_macs(eth);
	__builtin_memset(&f->ip, 0, sizeof(f->ip) + sizeof(f->icmp));
	f->ip.version = 6;
	f->ip.payload_len = bpf_htons(length);
	f->ip.nexthdr = IPPROTO_ICMPV6;
	f->ip.hop_limit = ICMP_TTL;
	if (p->hook == HOOK_HOST)
		__builtin_memcpy(&f->ip.saddr, &p->daddr, sizeof(f->ip.saddr));
	else
		addr_from_config(&f->ip.saddr, &cfg_router_ip6);
	__builtin_memcpy(&f->ip.daddr, &p->saddr, sizeof(f->ip.daddr));
	f->icmp.type = what;
	f->icmp.code = what >> 8;
	f->icmp.rest = rest;
	sum = icmp6_pseudo(&f->ip, length);
	f->icmp.checksum = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&f->icmp, length, sum));
	return send_back(skb, p);
}

/* A hop too many. The packet is dropped, and known as such, whether or not its sender can be told. */
static __always_inline int time_exceeded(struct __sk_buff *skb, struct packet *p, const int family)
{
	drop(p, REFUSE(p, FILE_ICMP, DROP_TTL_EXCEEDED));
	if (family == IPV4)
		return answer4(skb, p, ICMP_MESSAGE(ICMP_TIME_EXCEEDED, 0), 0);
	return answer6(skb, p, ICMP_MESSAGE(ICMPV6_TIME_EXCEED, 0), 0);
}
