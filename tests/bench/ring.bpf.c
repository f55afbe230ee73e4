/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fills event rings with records as real traffic makes them: half new flows, half denials, among 64 pairs of pods. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "layout.h"

char object_license[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct event_state);
	__uint(max_entries, 1);
} b_state_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, EVENT_RINGS);
} b_rings_v1 SEC(".maps");

static void address(struct addr *a, __u8 last)
{
	a->b[10] = a->b[11] = 0xff;
	a->b[12] = 10;
	a->b[13] = 244;
	a->b[15] = last;
}

SEC("tc")
int fill(struct __sk_buff *skb)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), index = cpu % EVENT_RINGS;
	struct event_state *state = bpf_map_lookup_elem(&b_state_v1, &zero);
	void *ring = bpf_map_lookup_elem(&b_rings_v1, &index);
	struct event *e;
	__u32 seq;

	if (!state || !ring)
		return TC_ACT_SHOT;
	seq = __sync_fetch_and_add(&state->seq, 1);
	e = bpf_ringbuf_reserve(ring, sizeof(*e), 0);
	if (!e) {
		state->lost++;
		return TC_ACT_SHOT;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->ktime = bpf_ktime_get_ns();
	e->seq = seq;
	e->cpu = cpu;
	e->protocol = 17;
	e->hook = HOOK_POD;
	address(&e->saddr, 10 + (seq & 63));
	address(&e->daddr, 80 + (seq & 63));
	e->src_endpoint = 10 + (seq & 63);
	e->dst_endpoint = 80 + (seq & 63);
	e->src_identity = 1000 + (seq & 63);
	e->dst_identity = 2000 + (seq & 63);
	e->sport = 1024 + (seq >> 8);
	e->dport = 20000 + (seq & 0x3fff);
	e->ifindex = 20 + (seq & 63);
	e->length = 29;
	e->egress.verdict = RULE_NOT_ENFORCED;
	if (seq & 1) {
		e->type = EVENT_DROP;
		e->reason = 133;
		e->ingress.verdict = RULE_DEFAULT_DENIED;
	} else {
		e->type = EVENT_FLOW;
		e->flags = EVENT_TO_LOCAL;
		e->ingress.class_id = 7;
		e->ingress.verdict = RULE_ALLOWED;
	}
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return TC_ACT_OK;
}
