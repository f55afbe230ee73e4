/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the datapath puts into a tunnel's header for the identity in a packet's first four bytes. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "ipcache.h"

char object_license[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int wire(struct __sk_buff *skb)
{
	__u32 identity = 0;

	bpf_skb_load_bytes(skb, 0, &identity, sizeof(identity));
	return wire_identity(identity);
}
