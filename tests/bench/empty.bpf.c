/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a program costs that does nothing: it is taken off what others cost. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int empty(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
