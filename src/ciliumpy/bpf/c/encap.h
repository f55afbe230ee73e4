/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tunnel: the sender's identity travels as the VNI. */
#pragma once

#include "config.h"
#include "events.h"

static __always_inline int to_overlay(struct __sk_buff *skb, struct packet *p, const struct ct_half *half)
{
	struct bpf_tunnel_key key = { .tunnel_id = half->to_tunnel.vni, .tunnel_ttl = 64 };
	__u64 flags = BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT;

	if (addr_is_ipv4(&half->to_tunnel.remote)) {
		key.remote_ipv4 = bpf_ntohl(addr_ipv4(&half->to_tunnel.remote));
	} else {
		__builtin_memcpy(key.remote_ipv6, &half->to_tunnel.remote, sizeof(key.remote_ipv6));
		flags = BPF_F_TUNINFO_IPV6; /* receivers refuse IPv6 without a checksum */
	}
	/* The whole struct: with less the kernel takes it for an older one and packets are lost. */
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return drop(p, REFUSE(p, FILE_DELIVER, DROP_NO_TUNNEL_KEY));
	skb->mark = 0;
	return bpf_redirect(cfg_vxlan_ifindex, 0);
}

/* A test object knows the tunnel key from elsewhere: a key cannot be set in a test run. */
#ifndef READ_TUNNEL_KEY
static __always_inline int read_tunnel_key(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_tunnel_key key = {};
	__u64 flags = 0;

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		flags = BPF_F_TUNINFO_IPV6;
		if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), flags))
			return REFUSE(p, FILE_OVERLAY, DROP_NO_TUNNEL_KEY);
	}
	p->vni = key.tunnel_id;
	if (flags)
		__builtin_memcpy(&p->outer, key.remote_ipv6, sizeof(p->outer));
	else
		addr_from_ipv4(&p->outer, bpf_htonl(key.remote_ipv4));
	return 0;
}
#define READ_TUNNEL_KEY(skb, p) read_tunnel_key(skb, p)
#endif
