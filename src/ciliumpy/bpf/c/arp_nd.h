/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pods ask for one neighbour only, their gateway, and we answer: it is the host side of their link. Where another plugin
 * gave a pod its addresses, any neighbour is behind us but itself.
 */
#pragma once

#include "config.h"
#include "events.h"
#include "icmp.h"
#include "maps.h"

#define ND_ROUTER_SOLICITATION 133
#define ND_NEIGHBOUR_SOLICITATION 135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_REDIRECT 137
#define MLD_QUERY 130
#define MLD_DONE 132
#define MLD2_REPORT 143
#define ND_OPTION_TARGET_MAC 2
#define DHCP6_CLIENT 546
#define DHCP6_SERVER 547
#define ND_ADVERTISEMENT_FLAGS 0xe0000000 /* router, solicited, override */

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp_frame {
	struct ethhdr eth;
	__u16 hardware;
	__u16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__u16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u32 sender_ip;
	__u8 target_mac[ETH_ALEN];
	__u32 target_ip;
} __attribute__((packed));

struct nd_message {
	struct icmp6hdr icmp;
	struct in6_addr target;
	__u8 option;
	__u8 option_length; /* in 8 bytes */
	__u8 mac[ETH_ALEN];
};

struct nd_packet {
	struct ipv6hdr ip;
	struct nd_message nd;
};

static __always_inline struct endpoint *endpoint_at(__u32 ifindex)
{
	__u32 *slot = bpf_map_lookup_elem(&cp_link_v1, &ifindex);
	struct endpoint *ep = slot && *slot ? endpoint_of(*slot) : NULL;

	return ep && ep->generation && ep->ifindex == ifindex ? ep : NULL;
}

static __always_inline bool is_proxied(const struct endpoint *ep, const struct addr *asked, const struct addr *own)
{
	return ep->flags & ENDPOINT_PROXY_ARP && !addr_equal(asked, own);
}

static __always_inline int answer_arp(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *ep = endpoint_at(skb->ifindex);
	struct arp_frame *f;
	struct addr asked;
	__u32 ip;

	if (!ep || bpf_skb_pull_data(skb, sizeof(*f)))
		return drop_silently(p, DROP_UNSUPPORTED_L2);
	f = (void *)(long)skb->data;
	if ((void *)(f + 1) > (void *)(long)skb->data_end)
		return drop_silently(p, DROP_INVALID);
	addr_from_ipv4(&asked, f->target_ip);
	if (f->hardware != bpf_htons(ARP_ETHERNET) || f->protocol != bpf_htons(ETH_P_IP) ||
	    f->hardware_length != ETH_ALEN || f->protocol_length != 4 || f->operation != bpf_htons(ARP_REQUEST) ||
	    !(addr_is(&asked, &cfg_router_ip4) || is_proxied(ep, &asked, &ep->ip4)))
		return drop_silently(p, DROP_UNKNOWN_TARGET);
	ip = f->target_ip;
	f->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(f->eth.h_dest, f->sender_mac, ETH_ALEN);
	__builtin_memcpy(f->eth.h_source, ep->host_mac, ETH_ALEN);
	__builtin_memcpy(f->target_mac, f->sender_mac, ETH_ALEN);
	f->target_ip = f->sender_ip;
	__builtin_memcpy(f->sender_mac, ep->host_mac, ETH_ALEN);
	f->sender_ip = ip;
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline bool is_neighbour_talk(const struct packet *p)
{
	return p->protocol == IPPROTO_ICMPV6 && ((p->sport >= ND_ROUTER_SOLICITATION && p->sport <= ND_REDIRECT) ||
						 (p->sport >= MLD_QUERY && p->sport <= MLD_DONE) ||
						 p->sport == MLD2_REPORT);
}

/* A neighbour asks for an address, and gets it, before either has one of ours. */
static __always_inline bool is_link_dhcp6(const struct packet *p)
{
	return p->protocol == IPPROTO_UDP && addr_is_link_local6(&p->saddr) && addr_is_link_local6(&p->daddr) &&
	       ((p->sport == DHCP6_SERVER && p->dport == DHCP6_CLIENT) ||
		(p->sport == DHCP6_CLIENT && p->dport == DHCP6_SERVER));
}

/* A solicitation of the gateway is answered, the rest of the talk ends here: nobody else is on the link. */
static __always_inline int answer_nd(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *ep = endpoint_at(skb->ifindex);
	struct nd_packet *f;
	struct ethhdr *eth;
	struct addr target;
	__u64 sum;

	if (!ep || p->sport != ND_NEIGHBOUR_SOLICITATION || p->ttl != 255 || addr_is_zero(&p->saddr) ||
	    bpf_skb_load_bytes(skb, p->l4 + sizeof(struct icmp6hdr), &target, sizeof(target)) ||
	    !(addr_is(&target, &cfg_router_ip6) || is_proxied(ep, &target, &ep->ip6)) || p->l4 != ETH_HLEN + sizeof(struct ipv6hdr))
		return drop_silently(p, DROP_FORBIDDEN_ICMP6);
	if (!addr_equal(&p->saddr, &ep->ip6) && !addr_is_link_local6(&p->saddr))
		return drop_silently(p, DROP_INVALID_SOURCE);
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(*f), 0) || bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*f)))
		return drop_silently(p, DROP_INVALID);
	eth = (void *)(long)skb->data;
	f = (void *)(eth + 1);
	if ((void *)(f + 1) > (void *)(long)skb->data_end)
		return drop_silently(p, DROP_INVALID);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, ep->host_mac, ETH_ALEN);
	f->ip.payload_len = bpf_htons(sizeof(f->nd));
	f->ip.daddr = f->ip.saddr;
	__builtin_memcpy(&f->ip.saddr, &target, sizeof(target));
	__builtin_memset(&f->nd.icmp, 0, sizeof(f->nd.icmp));
	f->nd.icmp.icmp6_type = ND_NEIGHBOUR_ADVERTISEMENT;
	f->nd.icmp.icmp6_dataun.un_data32[0] = bpf_htonl(ND_ADVERTISEMENT_FLAGS);
	f->nd.option = ND_OPTION_TARGET_MAC;
	f->nd.option_length = 1;
	__builtin_memcpy(f->nd.mac, ep->host_mac, ETH_ALEN);
	sum = icmp6_pseudo(&f->ip, sizeof(f->nd));
	f->nd.icmp.icmp6_cksum = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&f->nd, sizeof(f->nd), sum));
	return bpf_redirect(skb->ifindex, 0);
}
