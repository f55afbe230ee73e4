/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Somebody else's program on a hook of ours: it counts the IPv4 that it sees (neighbours are asked for at
 * any time) and says what it was told to say.
 */
#include <linux/bpf.h>

#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct foreign {
	__s32 verdict;
	__u32 padding;
	__u64 seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct foreign);
	__uint(max_entries, 1);
} f_state_v1 SEC(".maps");

SEC("tc")
int foreign(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct foreign *state = bpf_map_lookup_elem(&f_state_v1, &zero);

	if (!state)
		return -1;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		__sync_fetch_and_add(&state->seen, 1);
	return state->verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
