/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to struct packet, conntrack key included. Gives 0 or a drop reason. Whatever does not fit the few shapes we
 * know is refused: a fragment without its first, odd extension headers, protocols without ports.
 */
#pragma once

#include "fragment.h"
#include "maps.h"

#define MAX_EXTENSIONS 3
#define PULL_BYTES (ETH_HLEN + 40 + 40) /* headers that are to be in the linear part, if they are not */

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__u16 offset; /* 13 bits of offset, 2 reserved, 1 more fragments */
	__u32 id;
};

/* Order the two ends; p->direction says whether they were swapped. */
static __always_inline void key_ports(struct packet *p, const int family, __u16 sport, __u16 dport)
{
	if (family == IPV4) {
		__u32 s = addr_ipv4(&p->saddr), d = addr_ipv4(&p->daddr);
		bool swap = s > d || (s == d && sport > dport);

		p->direction = swap;
		p->key.v4.addr[0] = swap ? d : s;
		p->key.v4.addr[1] = swap ? s : d;
		p->key.v4.port[0] = swap ? dport : sport;
		p->key.v4.port[1] = swap ? sport : dport;
	} else {
		const __u32 *s = addr_words(&p->saddr), *d = addr_words(&p->daddr);
		bool swap = sport > dport;

		swap = s[3] == d[3] ? swap : s[3] > d[3];
		swap = s[2] == d[2] ? swap : s[2] > d[2];
		swap = s[1] == d[1] ? swap : s[1] > d[1];
		swap = s[0] == d[0] ? swap : s[0] > d[0];
		p->direction = swap;
		if (swap) {
			p->key.v6.addr[0] = p->daddr;
			p->key.v6.addr[1] = p->saddr;
			p->key.v6.port[0] = dport;
			p->key.v6.port[1] = sport;
		} else {
			p->key.v6.addr[0] = p->saddr;
			p->key.v6.addr[1] = p->daddr;
			p->key.v6.port[0] = sport;
			p->key.v6.port[1] = dport;
		}
	}
}

/* The requester is always first: two hosts that ping each other with one id have two flows. */
static __always_inline void key_echo(struct packet *p, const int family, __u16 id, bool reply)
{
	p->direction = reply;
	if (family == IPV4) {
		__u32 s = addr_ipv4(&p->saddr), d = addr_ipv4(&p->daddr);

		p->key.v4.addr[0] = reply ? d : s;
		p->key.v4.addr[1] = reply ? s : d;
		p->key.v4.port[0] = id;
		p->key.v4.port[1] = 0;
	} else {
		p->key.v6.addr[0] = reply ? p->daddr : p->saddr;
		p->key.v6.addr[1] = reply ? p->saddr : p->daddr;
		p->key.v6.port[0] = id;
		p->key.v6.port[1] = 0;
	}
}

static __always_inline void key_kind(struct packet *p, const int family, __u8 protocol, __u8 kind)
{
	if (family == IPV4) {
		p->key.v4.protocol = protocol;
		p->key.v4.kind = kind;
		p->key.v4.zone = 0;
	} else {
		p->key.v6.protocol = protocol;
		p->key.v6.kind = kind;
		p->key.v6.zone = 0;
	}
}

static __always_inline bool icmp_is_error(const int family, __u8 type)
{
	if (family == IPV4)
		return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
	return type && type < 128;
}

#define ICMP_ECHO_REQUEST(family) ((family) == IPV4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST)
#define ICMP_ECHO_ANSWER(family) ((family) == IPV4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY)

/* Kind and key, of the ports as they stand in the header, or the id of an echo; p->sport is its type. */
static __always_inline void classify(struct packet *p, const int family, __u16 sport, __u16 dport, __u16 echo)
{
	if (p->protocol == (family == IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		p->kind = KIND_LONE;
		if (p->sport == ICMP_ECHO_REQUEST(family) || p->sport == ICMP_ECHO_ANSWER(family)) {
			p->kind = KIND_ECHO;
			key_echo(p, family, echo, p->sport == ICMP_ECHO_ANSWER(family));
		} else if (icmp_is_error(family, p->sport)) {
			p->kind = KIND_ERROR;
		}
	} else {
		p->kind = KIND_PORTS;
		key_ports(p, family, sport, dport);
	}
	key_kind(p, family, p->protocol, p->kind);
}

/*
 * Transport header: ports or ICMP, and with them the key. `l4` points to it, checked up to `end`. Of a first fragment it
 * has to be whole: what a later one brings is not looked at, and what pads the frame is no part of it.
 */
static __always_inline int parse_transport(struct packet *p, const int family, void *l4, void *end, __u32 header_end)
{
	__u32 needed = p->protocol == IPPROTO_TCP ? 20 : 8;
	__u16 sport, dport, echo = 0;

	if (p->protocol == IPPROTO_TCP) {
		if (l4 + 20 > end)
			return REFUSE(p, FILE_PARSE, DROP_CT_INVALID_HEADER);
		p->tcp_flags = *(__u8 *)(l4 + 13) & 0x3f;
	} else if (p->protocol == IPPROTO_UDP || p->protocol == IPPROTO_SCTP ||
		   p->protocol == (family == IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		if (l4 + 8 > end)
			return REFUSE(p, FILE_PARSE, DROP_CT_INVALID_HEADER);
	} else {
		return REFUSE(p, FILE_PARSE, DROP_CT_UNKNOWN_PROTOCOL);
	}
	if (p->fragment && p->fragment_end < header_end + needed)
		return REFUSE(p, FILE_PARSE, DROP_CT_INVALID_HEADER);
	sport = *(__u16 *)l4;
	dport = *(__u16 *)(l4 + 2);
	if (p->protocol == (family == IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		p->sport = *(__u8 *)l4;
		p->dport = *(__u8 *)(l4 + 1);
		echo = *(__u16 *)(l4 + 4);
	} else {
		p->sport = bpf_ntohs(sport);
		p->dport = bpf_ntohs(dport);
	}
	classify(p, family, sport, dport, echo);
	return 0;
}

/* A fragment that begins `offset` bytes into its datagram. */
static __always_inline int parse_later(struct packet *p, const int family, __u32 offset)
{
	__u16 echo = 0;
	int reason;

	p->fragment = FRAGMENT_LATER;
	reason = recall_first(p, family, offset, &echo);
	if (!reason)
		classify(p, family, bpf_htons(p->sport), bpf_htons(p->dport), echo);
	return reason;
}

static __always_inline int parse_ipv4(struct packet *p, void *data, void *end)
{
	struct iphdr *ip = data + ETH_HLEN;
	__u32 header;

	if ((void *)(ip + 1) > end)
		return REFUSE(p, FILE_PARSE, DROP_INVALID);
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || bpf_ntohs(ip->tot_len) < header)
		return REFUSE(p, FILE_PARSE, DROP_INVALID);
	addr_from_ipv4(&p->saddr, ip->saddr);
	addr_from_ipv4(&p->daddr, ip->daddr);
	p->protocol = ip->protocol;
	p->ttl = ip->ttl;
	p->l4 = ETH_HLEN + header;
	if (ip->frag_off & bpf_htons(0x3fff)) {
		p->fragment_id = ip->id;
		if (ip->frag_off & bpf_htons(0x1fff))
			return parse_later(p, IPV4, (bpf_ntohs(ip->frag_off) & 0x1fff) * 8);
		p->fragment = FRAGMENT_FIRST;
		p->fragment_end = bpf_ntohs(ip->tot_len) - header;
	}
	return parse_transport(p, IPV4, (void *)ip + header, end, 0);
}

/* Walks over what may stand before the transport header of a frame of `length`; only then is the offset not the usual. */
static __always_inline int skip_extensions(struct packet *p, void *data, void *end, __u32 length)
{
	__u32 offset = ETH_HLEN + sizeof(struct ipv6hdr), begin = 0;
	__u8 next = p->protocol;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct fragment_header *fragment = data + offset;
		__u8 *option = data + offset;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			break;
		if ((void *)(fragment + 1) > end)
			return REFUSE(p, FILE_PARSE, DROP_INVALID_EXTENSION);
		if (next == IPPROTO_FRAGMENT) {
			if (p->fragment)
				return REFUSE(p, FILE_PARSE, DROP_INVALID_EXTENSION);
			p->fragment_id = fragment->id;
			p->l4 = offset;
			p->protocol = fragment->next;
			if (fragment->offset & bpf_htons(0xfff8))
				return parse_later(p, IPV6, bpf_ntohs(fragment->offset) & 0xfff8);
			next = fragment->next;
			offset += sizeof(*fragment);
			p->fragment = FRAGMENT_FIRST;
			p->fragment_end = length < offset ? 0 : length - offset;
			begin = offset;
			continue;
		}
		if (option[1] > 1) /* 16 bytes hold every option that pods have reason to send */
			return REFUSE(p, FILE_PARSE, DROP_INVALID_EXTENSION);
		next = option[0];
		offset += (option[1] + 1) * 8;
	}
	if (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT || next == IPPROTO_ROUTING)
		return REFUSE(p, FILE_PARSE, DROP_INVALID_EXTENSION);
	p->protocol = next;
	p->l4 = offset;
	if (offset > ETH_HLEN + sizeof(struct ipv6hdr) + MAX_EXTENSIONS * 16)
		return REFUSE(p, FILE_PARSE, DROP_INVALID_EXTENSION);
	return parse_transport(p, IPV6, data + offset, end, begin ? offset - begin : 0);
}

static __always_inline int parse_ipv6(struct packet *p, void *data, void *end)
{
	struct ipv6hdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return REFUSE(p, FILE_PARSE, DROP_INVALID);
	addr_from_ipv6(&p->saddr, &ip->saddr);
	addr_from_ipv6(&p->daddr, &ip->daddr);
	p->protocol = ip->nexthdr;
	p->ttl = ip->hop_limit;
	p->l4 = ETH_HLEN + sizeof(*ip);
	if (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP || p->protocol == IPPROTO_ICMPV6)
		return parse_transport(p, IPV6, ip + 1, end, 0);
	return skip_extensions(p, data, end, ETH_HLEN + sizeof(*ip) + bpf_ntohs(ip->payload_len));
}

static __always_inline int parse_linear(struct __sk_buff *skb, struct packet *p, const int family)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	return family == IPV4 ? parse_ipv4(p, data, end) : parse_ipv6(p, data, end);
}

/* A sender's TCP segment has its headers there and its data elsewhere: to pull more of it would copy its head each time. */
static __always_inline int parse_any(struct __sk_buff *skb, struct packet *p, const int family)
{
	__u32 linear = skb->data_end - skb->data;
	int reason = parse_linear(skb, p, family);

	if (!reason || linear >= PULL_BYTES || linear >= skb->len)
		return reason;
	if (bpf_skb_pull_data(skb, skb->len < PULL_BYTES ? skb->len : PULL_BYTES))
		return reason;
	p->fragment = 0;
	return parse_linear(skb, p, family);
}

/* Functions of their own, so that the verifier walks them once and not once for every way through them. */
__attribute__((noinline)) int parse_frame4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? parse_any(skb, &s->packet, IPV4) : DROP_INVALID;
}

__attribute__((noinline)) int parse_frame6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? parse_any(skb, &s->packet, IPV6) : DROP_INVALID;
}

static __always_inline int parse(struct __sk_buff *skb, const int family)
{
	return family == IPV4 ? parse_frame4(skb) : parse_frame6(skb);
}
