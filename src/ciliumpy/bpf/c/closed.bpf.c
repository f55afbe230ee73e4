/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The second lock of a pod's link: a clsact filter that is reached only when the program before it is gone. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int closed(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
