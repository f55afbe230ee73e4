/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets and bytes of flows and of policy's rules. A packet that is replayed is counted once, in its flow's counter, which
 * knows where the flow's rules count, as its row does; what stands there is added to the rules' own counts when another flow takes the counter over.
 * A rule's sum is what cp_rulestat_v2 has and what stands in counters: exact, and a replayed packet pays nothing for it.
 * All are this CPU's own, where nobody else writes meanwhile.
 */
#pragma once

#include "maps.h"

#define MAX_CPUS 8192

/* Where a rule's packets are counted; 0: nowhere. A default denial, which has no rule, says it itself. */
static __always_inline __u16 stat_of(__u64 reference)
{
	union rule r = { .value = reference };
	struct port_class *class;

	switch (r.ref.verdict & ~RULE_AUDITED) {
	case RULE_DEFAULT_DENIED:
		return r.ref.bit;
	case RULE_ALLOWED:
	case RULE_DENIED:
	case RULE_REDIRECTED:
		class = bpf_map_lookup_elem(&cp_class_v2, &r.ref.class_id);
		return class ? class->level[r.ref.level & (CLASS_LEVELS - 1)].stat : 0;
	}
	return 0;
}

static __always_inline void add_to_rule(__u32 stat, __u64 packets, __u64 bytes)
{
	struct rule_stat *sum = stat ? bpf_map_lookup_elem(&cp_rulestat_v2, &stat) : NULL;

	if (sum) {
		sum->packets += packets;
		sum->bytes += bytes;
	}
}

/* What decides of the packet decides of its row. */
static __always_inline void keep_rules(struct ct_row *row, const struct packet *p)
{
	union rule egress = { .ref = p->egress }, ingress = { .ref = p->ingress };

	row->egress = p->egress;
	row->ingress = p->ingress;
	row->stat[EGRESS] = stat_of(egress.value);
	row->stat[INGRESS] = stat_of(ingress.value);
}

/* A packet of which no flow keeps count: denied, or without a row. */
__attribute__((noinline)) int count_rules(const struct packet *p)
{
	union rule egress, ingress;

	if (!p)
		return 0;
	egress.ref = p->egress;
	ingress.ref = p->ingress;
	add_to_rule(stat_of(egress.value), 1, p->length);
	add_to_rule(stat_of(ingress.value), 1, p->length);
	return 0;
}

/* A counter that another flow used becomes this one's. */
__attribute__((noinline)) int take_counter(__u32 index, __u32 flow, __u32 stats)
{
	struct flow_counter *counter = bpf_map_lookup_elem(&cp_counter_v3, &index);

	if (!counter)
		return 0;
	for (__u32 leg = 0; leg < 2; leg++)
		add_to_rule(counter->stat[leg], counter->packets[0], counter->bytes[0]);
	__builtin_memset(counter, 0, sizeof(*counter));
	*(__u32 *)counter->stat = stats;
	counter->flow = flow;
	return 0;
}

/* A flow's counts on this CPU. `stats`: ct_row.stat as it stands, both. */
static __always_inline void count_flow(__u32 index, __u32 flow, __u32 way, __u64 bytes, __u32 stats)
{
	struct flow_counter *counter = bpf_map_lookup_elem(&cp_counter_v3, &index);

	if (!counter)
		return;
	if (counter->flow != flow)
		take_counter(index, flow, stats);
	counter->packets[way & 1]++;
	counter->bytes[way & 1] += bytes;
}

struct flow_sum {
	struct flow_counter total;
	__u32 index;
};

static long add_cpu(__u32 cpu, struct flow_sum *sum)
{
	struct flow_counter *counter = bpf_map_lookup_percpu_elem(&cp_counter_v3, &sum->index, cpu);

	if (!counter)
		return 1; /* no more CPUs */
	if (counter->flow == sum->total.flow) {
		sum->total.packets[0] += counter->packets[0];
		sum->total.packets[1] += counter->packets[1];
		sum->total.bytes[0] += counter->bytes[0];
		sum->total.bytes[1] += counter->bytes[1];
	}
	return 0;
}

/* Over all CPUs. Some are being written meanwhile, which costs a packet of exactness. */
static __always_inline void sum_flow(struct flow_sum *sum, __u32 index, __u32 flow)
{
	__builtin_memset(sum, 0, sizeof(*sum));
	sum->index = index;
	sum->total.flow = flow;
	bpf_loop(MAX_CPUS, add_cpu, sum, 0);
}

/*
 * Other rules decide of a flow now. Its counters on all CPUs stay what they are, the former rules' until somebody takes them
 * over: it goes on in another counter, which begins with its sums.
 */
static __always_inline bool counts_elsewhere(const struct ct_row *row, const struct ct_row *old)
{
	return row->stat[EGRESS] != old->stat[EGRESS] || row->stat[INGRESS] != old->stat[INGRESS];
}

/* Puts a flow's sums, so far, into its new counter; of the new rules' packets they are none. */
__attribute__((noinline)) int carry_over(__u32 index, __u32 flow, __u32 old_index, __u32 old_flow)
{
	struct flow_counter *counter = bpf_map_lookup_elem(&cp_counter_v3, &index);
	struct flow_sum sum;

	if (!counter || counter->flow != flow)
		return 0;
	sum_flow(&sum, old_index, old_flow);
	for (__u32 i = 0; i < 2; i++) {
		add_to_rule(counter->stat[i], -sum.total.packets[0], -sum.total.bytes[0]);
		counter->packets[i] += sum.total.packets[i];
		counter->bytes[i] += sum.total.bytes[i];
	}
	return 0;
}
