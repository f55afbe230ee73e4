/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the verifier has to refuse: a map value used without asking whether it is there. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char object_license[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} r_hash_v1 SEC(".maps");

SEC("tc")
int harmless(struct __sk_buff *skb)
{
	return 0;
}

SEC("tc")
int careless(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&r_hash_v1, &key);

	return *value;
}
