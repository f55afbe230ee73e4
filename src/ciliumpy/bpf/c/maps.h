/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps. Sizes are defaults; the loader sets the real ones. */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "packet.h"

/* The two maps whose rows are as wide as vectors have names of their own in the wide object: for a while there are both. */
#if VECTOR_BITS > 1024
#define cp_vector_v1 cp_vector4k_v1
#define cp_class_v2 cp_class4k_v2
#endif

#define MAP(name, map_type, key_type, value_type, entries, flags)                                                      \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
		__uint(max_entries, entries);                                                                          \
		__uint(map_flags, flags);                                                                              \
	} name SEC(".maps")

MAP(cp_endpoint_v1, BPF_MAP_TYPE_ARRAY, __u32, struct endpoint, MAX_ENDPOINTS, 0);
MAP(cp_epoch_v1, BPF_MAP_TYPE_ARRAY, __u32, __u64, EPOCH_COUNT, 0);
MAP(cp_epepoch_v1, BPF_MAP_TYPE_ARRAY, __u32, __u64, MAX_ENDPOINTS, 0);
MAP(cp_ipepoch_v1, BPF_MAP_TYPE_ARRAY, __u32, __u64, EPOCH_BUCKETS, 0);
MAP(cp_link_v1, BPF_MAP_TYPE_HASH, __u32, __u32, MAX_ENDPOINTS, BPF_F_NO_PREALLOC);
MAP(cp_local_v1, BPF_MAP_TYPE_HASH, struct addr, struct local_target, 2 * MAX_ENDPOINTS, BPF_F_NO_PREALLOC);

MAP(cp_podnet_v1, BPF_MAP_TYPE_ARRAY, __u32, __u32, MAX_ENDPOINTS, 0);

MAP(cp_iphost_v1, BPF_MAP_TYPE_HASH, struct addr, struct ipcache_entry, 65536, BPF_F_NO_PREALLOC);
MAP(cp_ipcidr_v1, BPF_MAP_TYPE_LPM_TRIE, struct ipcache_prefix, struct ipcache_entry, 65536, BPF_F_NO_PREALLOC);

MAP(cp_vector_v1, BPF_MAP_TYPE_HASH, __u32, struct vector, 65536, BPF_F_NO_PREALLOC);
MAP(cp_set_v2, BPF_MAP_TYPE_HASH, __u32, struct policy_set, 16384, BPF_F_NO_PREALLOC);
MAP(cp_port_v1, BPF_MAP_TYPE_HASH, struct port_key, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(cp_range_v1, BPF_MAP_TYPE_HASH, struct port_key, struct port_ranges, 16384, BPF_F_NO_PREALLOC);
MAP(cp_class_v2, BPF_MAP_TYPE_HASH, __u32, struct port_class, 16384, BPF_F_NO_PREALLOC);

MAP(cp_ct4_v1, BPF_MAP_TYPE_LRU_HASH, struct ct4_key, struct ct_row, 65536, 0);
MAP(cp_ct6_v1, BPF_MAP_TYPE_LRU_HASH, struct ct6_key, struct ct_row, 65536, 0);
MAP(cp_ctu4_v1, BPF_MAP_TYPE_LRU_HASH, struct ct4_key, struct ct_row, 8192, 0);
MAP(cp_ctu6_v1, BPF_MAP_TYPE_LRU_HASH, struct ct6_key, struct ct_row, 8192, 0);
MAP(cp_frag4_v1, BPF_MAP_TYPE_LRU_HASH, struct frag4_key, struct fragment, 8192, 0);
MAP(cp_frag6_v1, BPF_MAP_TYPE_LRU_HASH, struct frag6_key, struct fragment, 8192, 0);
MAP(cp_pathmtu_v1, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);
MAP(cp_counter_v3, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct flow_counter, 65536, 0);
MAP(cp_rulestat_v2, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct rule_stat, 32768, 0);
MAP(cp_rulebase_v2, BPF_MAP_TYPE_ARRAY, __u32, struct rule_stat, 32768, 0);
MAP(cp_flowseq_v2, BPF_MAP_TYPE_ARRAY, __u32, __u64, 2, 0);

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} cp_began_v1 SEC(".maps");

MAP(cp_evstate_v1, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct event_state, 1, 0);
MAP(cp_metrics_v1, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct metric, 512, 0);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, EVENT_RINGS);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_RINGBUF);
			__uint(max_entries, 1 << 20);
		});
} cp_events_v1 SEC(".maps");

/* What is too big for the stack. Programs run with softirqs off: nobody else is in it meanwhile. */
struct scratch {
	struct packet packet;
	struct ct_row old;
	struct ct_row row;
	struct ct_half half; /* of the packet at hand */
	struct packet inner; /* the packet that an ICMP error carries */
	struct bpf_fib_lookup fib;
	__u32 next_level; /* of policy_match */
};
MAP(cp_scratch_v1, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, 1, 0);

static const __u32 zero = 0;

/* For functions of their own: of an argument older kernels would not take the fields as map keys. */
static __always_inline struct scratch *scratch_at_hand(void)
{
	return bpf_map_lookup_elem(&cp_scratch_v1, &zero);
}

static __always_inline struct endpoint *endpoint_of(__u32 slot)
{
	return bpf_map_lookup_elem(&cp_endpoint_v1, &slot);
}

/* Is the pod that had the slot then the one that has it now? */
static __always_inline bool same_generation(__u32 slot, __u32 generation)
{
	struct endpoint *ep = endpoint_of(slot);

	return ep && ep->generation == generation;
}

static __always_inline __u64 global_epoch(void)
{
	__u64 *epoch = bpf_map_lookup_elem(&cp_epoch_v1, &zero);

	return epoch ? *epoch : 0;
}

static __always_inline __u32 epoch_bucket(const struct addr *a, const int family)
{
	const __u32 *x = addr_words(a);
	__u64 network = family == IPV4 ? bpf_ntohl(x[3]) >> 8 : (__u64)bpf_ntohl(x[0]) << 32 | bpf_ntohl(x[1]);

	return network * EPOCH_MIX >> 52;
}

/*
 * Of one end: a local pod's own; of everybody else, what ipcache says of the address. Slot 0 is no endpoint. The two lookups
 * must stay two: made one of either map, neither would be inlined, and that costs 15 ns.
 */
static __always_inline __u64 end_epoch(__u32 slot, const struct addr *a, const int family)
{
	__u32 bucket;
	__u64 *epoch;

	if (slot) {
		epoch = bpf_map_lookup_elem(&cp_epepoch_v1, &slot);
		barrier();
		return epoch ? *epoch : 0;
	}
	bucket = epoch_bucket(a, family);
	epoch = bpf_map_lookup_elem(&cp_ipepoch_v1, &bucket);
	return epoch ? *epoch : 0;
}

/* What a direction's decision rests on. Each only grows, so that the sum is what it was only if all three are. */
static __always_inline __u64 epoch_sum(const struct packet *p, __u32 source_slot, __u32 target_slot, const int family)
{
	__u64 global = global_epoch();

	if (!global)
		return 0;
	return global + end_epoch(source_slot, &p->saddr, family) + end_epoch(target_slot, &p->daddr, family);
}
