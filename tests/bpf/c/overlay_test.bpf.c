/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The datapath, but a packet's tunnel key comes from cb: a test run cannot set one. cb[0] VNI, cb[1] outer IPv4 source. */
#include "packet.h"

static __always_inline int key_from_cb(struct __sk_buff *skb, struct packet *p)
{
	p->vni = skb->cb[0];
	addr_from_ipv4(&p->outer, skb->cb[1]);
	return 0;
}
#define READ_TUNNEL_KEY(skb, p) key_from_cb(skb, p)

#include "datapath.bpf.c"
