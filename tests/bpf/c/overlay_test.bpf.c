/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The datapath with what a test run can neither set nor see in cb: cb[0] is the VNI and cb[1] the outer IPv4 source that
 * the packet comes with, or cb[2] and cb[3] the first and last word of an IPv6 one; cb[4] becomes 1 plus the packet type that it is handed over with.
 */
#include "packet.h"

static __always_inline int key_from_cb(struct __sk_buff *skb, struct packet *p)
{
	p->vni = skb->cb[0];
	addr_from_ipv4(&p->outer, skb->cb[1]);
	if (skb->cb[2]) {
		__u32 *outer = (__u32 *)&p->outer;

		outer[0] = skb->cb[2];
		outer[1] = 0;
		outer[2] = 0;
		outer[3] = skb->cb[3];
	}
	return 0;
}
#define READ_TUNNEL_KEY(skb, p) key_from_cb(skb, p)

#define AT_HANDED_OVER(skb) ((skb)->cb[4] = (skb)->pkt_type + 1)

#include "datapath.bpf.c"
