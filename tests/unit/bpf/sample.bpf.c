/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A small object with one of everything that the door has to open: map types, constants, layouts, rings. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

char object_license[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 cfg_number = 7;
const volatile __u16 cfg_port = 80;
const volatile struct addr cfg_address;

enum colour { RED = 1, GREEN = -2 };
enum wide { FAR = 0x100000000ULL };

struct shapes {
	__u8 first;
	__s32 number;
	enum colour colour;
	enum wide wide;
	_Bool truth;
	char text[12];
	__u16 pair[2];
	struct port_key nested[2];
	union {
		__u64 whole;
		struct {
			__u32 low;
			__u32 high;
		};
	};
	union {
		__u32 one;
		__u8 other[4];
	} named;
	void *pointer;
	__u32 bits : 3;
	__u64 last;
} __attribute__((aligned(8)));

#define MAP(name, map_type, key_type, value_type, entries, ...)                                                         \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
		__uint(max_entries, entries);                                                                          \
		__VA_ARGS__                                                                                            \
	} name SEC(".maps")

MAP(s_hash_v1, BPF_MAP_TYPE_HASH, struct port_key, struct shapes, 1000, );
MAP(s_sparse_v1, BPF_MAP_TYPE_HASH, __u32, __u64, 64, __uint(map_flags, BPF_F_NO_PREALLOC););
MAP(s_array_v1, BPF_MAP_TYPE_ARRAY, __u32, __u64, 16, );
MAP(s_lru_v1, BPF_MAP_TYPE_LRU_HASH, __u64, __u64, 512, );
MAP(s_lpm_v1, BPF_MAP_TYPE_LPM_TRIE, struct ipcache_prefix, struct ipcache_entry, 4096,
    __uint(map_flags, BPF_F_NO_PREALLOC););
MAP(s_percpu_v1, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct metric, 4, );
MAP(s_pcpuhash_v1, BPF_MAP_TYPE_PERCPU_HASH, __u32, __u32, 100, );
MAP(s_state_v1, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct event_state, 1, );

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, EVENT_RINGS);
} s_rings_v1 SEC(".maps");

/* The constants, as the packet. */
SEC("tc")
int constants(struct __sk_buff *skb)
{
	struct addr address;
	__u32 number = cfg_number;
	__u16 port = cfg_port;

	for (int i = 0; i < 16; i++)
		address.b[i] = cfg_address.b[i];
	bpf_skb_store_bytes(skb, 0, &number, 4, 0);
	bpf_skb_store_bytes(skb, 4, &port, 2, 0);
	bpf_skb_store_bytes(skb, 6, &address, 16, 0);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 key = 1;
	struct metric *metric = bpf_map_lookup_elem(&s_percpu_v1, &key);

	if (metric) {
		metric->packets++;
		metric->bytes += skb->len;
	}
	return TC_ACT_OK;
}

SEC("tc")
int shoot(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

/* One numbered record; with skb->mark 1 a reserved one is thrown away first. */
SEC("tc")
int produce(struct __sk_buff *skb)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), index = cpu % EVENT_RINGS;
	struct event_state *state = bpf_map_lookup_elem(&s_state_v1, &zero);
	void *ring = bpf_map_lookup_elem(&s_rings_v1, &index);
	struct event *event;

	if (!state || !ring)
		return TC_ACT_SHOT;
	if (skb->mark == 1) {
		event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
		if (event)
			bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
	}
	__u32 seq = __sync_fetch_and_add(&state->seq, 1);

	event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&state->lost, 1);
		return TC_ACT_SHOT;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->ktime = bpf_ktime_get_ns();
	event->seq = seq;
	event->cpu = cpu;
	event->type = EVENT_FLOW;
	event->length = skb->len;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return TC_ACT_OK;
}

/* Global, so that the record's type is in the type information. */
__attribute__((noinline)) int keep_event(struct event *event)
{
	return event ? event->type : 0;
}
