/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the packet at hand, the numbers of the field, and small arithmetic on addresses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

#define ENOENT 2
#define EEXIST 17

#define IPV4 4
#define IPV6 6

#define VLAN_NUMBER 0xfff /* of a tag */

#define FAMILY_INET 2
#define FAMILY_INET6 10

/* Cilium's drop reasons, as Hubble prints them. */
enum reason {
	DROP_INVALID_SOURCE = 132,
	DROP_POLICY = 133,
	DROP_INVALID = 134,
	DROP_CT_INVALID_HEADER = 135,
	DROP_TOO_BIG = 136,
	DROP_CT_UNKNOWN_PROTOCOL = 137,
	DROP_NO_TUNNEL_KEY = 147,
	DROP_UNKNOWN_TARGET = 150,
	DROP_UNROUTABLE = 151,
	DROP_CT_CREATE_FAILED = 155,
	DROP_INVALID_EXTENSION = 156,
	DROP_UNSUPPORTED_L2 = 166,
	DROP_NO_FIB = 169,
	DROP_ENCAP_PROHIBITED = 170,
	DROP_INVALID_IDENTITY = 171,
	DROP_UNKNOWN_SENDER = 172,
	DROP_FRAGMENT_UNKNOWN = 175,
	DROP_FORBIDDEN_ICMP6 = 176,
	DROP_NO_PROXY = 180,
	DROP_POLICY_DENY = 181,
	DROP_VLAN = 182,
	DROP_TTL_EXCEEDED = 196,
	DROP_ENDPOINT_NOT_READY = 203,
};

enum identity {
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_REMOTE_NODE = 6,
	IDENTITY_WORLD_IPV4 = 9,
	IDENTITY_WORLD_IPV6 = 10,
	IDENTITY_LOCAL_SCOPE = 1 << 24, /* from here on a number means something on this node only: prefixes, and */
	IDENTITY_NODE_SCOPE = 2 << 24,	/* other nodes */
};

enum tcp_flag {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16,
};
#define TCP_STATE (TCP_FIN | TCP_SYN | TCP_RST)

/* Of <linux/icmp.h> and <linux/if_arp.h>, which want the C library of a 32-bit machine. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u32 rest;
};

enum icmp_type {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

enum packet_kind {
	KIND_PORTS = CT_PORTS, /* has a conntrack row */
	KIND_ECHO = CT_ECHO,   /* likewise */
	KIND_LONE = 2,	       /* other ICMP: judged each time */
	KIND_ERROR = 3,	       /* ICMP error: belongs to the flow whose packet it carries */
};

#define KIND_HAS_ROW(kind) ((kind) <= KIND_ECHO)

enum fragment_part {
	FRAGMENT_FIRST = 1,
	FRAGMENT_LATER = 2,
};

/* A rule reference in one word: given by value, and compared at once. */
union rule {
	struct rule_ref ref;
	__u64 value;
};

union ct_key {
	struct ct4_key v4;
	struct ct6_key v6;
	__u64 words[5];
};

struct packet {
	union ct_key key;
	struct addr saddr;
	struct addr daddr;
	__u32 length; /* from the IP header on */
	__u32 ifindex;
	__u16 sport; /* host order; ICMP: type */
	__u16 dport; /* host order; ICMP: code */
	__u16 l4;    /* offset of the transport header in the frame */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 ttl;
	__u8 kind;	/* enum packet_kind */
	__u8 direction; /* 0: as the key stands, 1: swapped */
	__u8 hook;	/* enum hook */
	__u8 fragment;	/* enum fragment_part; 0: it is whole */
	__u8 answered;	/* its flow's row is, or will be, in the main map */
	__u8 rowless;	/* looked for, just now, and not found */
	__u8 flags;	/* enum event_flags */
	__u8 odd;	/* netdev, uplink: why it was not parsed. The stack may want it, and the host's policy may not */
	__u8 unkept;	/* the decision is good for this packet only */
	__u16 src_slot; /* local endpoints, or 0 */
	__u16 dst_slot;
	__u32 src_identity;
	__u32 dst_identity;
	struct rule_ref egress;
	struct rule_ref ingress;
	__u32 counter;
	__u32 flow;
	__u16 line; /* where a drop was decided */
	__u8 file;  /* enum source_file */
	__s8 ext_error;
	__u32 fragment_id; /* as it stands in the header */
	__u16 fragment_end; /* bytes of the datagram up to this first fragment's end */
	__u32 forwarded; /* host, uplink: the device that the stack had it from; 0: it is its own */
	__u32 vni; /* overlay: what the tunnel key said */
	struct addr outer;
};

/* Refuse the packet here: notes the place, gives the reason. */
#define REFUSE(p, where, reason) ((p)->line = __LINE__, (p)->file = (where), (int)(reason))

#define barrier() asm volatile("" ::: "memory")
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))

static __always_inline bool bare_syn(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_STATE | TCP_ACK)) == TCP_SYN;
}

static __always_inline const __u32 *addr_words(const struct addr *a)
{
	return (const __u32 *)a;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	const __u32 *x = addr_words(a), *y = addr_words(b);

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]));
}

static __always_inline bool addr_is(const struct addr *a, const volatile struct addr *fixed)
{
	const __u32 *x = addr_words(a);
	const volatile __u32 *y = (const volatile __u32 *)fixed;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]));
}

/* Through volatile: the compiler sees the default of a constant, the kernel what was set before the load. */
static __always_inline void addr_from_config(void *a, const volatile struct addr *fixed)
{
	const volatile __u32 *from = (const volatile __u32 *)fixed;
	__u32 *to = a;

	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline bool addr_is_zero(const struct addr *a)
{
	const __u32 *x = addr_words(a);

	return !(x[0] | x[1] | x[2] | x[3]);
}

static __always_inline bool addr_is_ipv4(const struct addr *a)
{
	const __u32 *x = addr_words(a);

	return !(x[0] | x[1] | (x[2] ^ bpf_htonl(0xffff)));
}

static __always_inline void addr_from_ipv4(struct addr *a, __u32 ip)
{
	__u32 *x = (__u32 *)a;

	x[0] = 0;
	x[1] = 0;
	x[2] = bpf_htonl(0xffff);
	x[3] = ip;
}

static __always_inline __u32 addr_ipv4(const struct addr *a)
{
	return addr_words(a)[3];
}

static __always_inline void addr_from_ipv6(struct addr *a, const struct in6_addr *ip)
{
	__builtin_memcpy(a, ip, sizeof(*a));
}

static __always_inline bool addr_is_multicast(const struct addr *a, const int family)
{
	return family == IPV4 ? (a->b[12] & 0xf0) == 0xe0 || addr_ipv4(a) == 0xffffffff : a->b[0] == 0xff;
}

static __always_inline bool addr_is_link_local6(const struct addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}
