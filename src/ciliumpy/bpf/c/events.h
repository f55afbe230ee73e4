/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records to user space, counts, and the end of a packet that is dropped. */
#pragma once

#include "account.h"
#include "config.h"
#include "packet.h"

#define RECORD_BYTES 128 /* an event with the ring's header */
#define EVENT_LIMITED 0x100 /* of event_send's type: it is told within the limit of drops, having no row to space it */

static __always_inline void count_metric(__u32 reason, __u32 direction, __u64 bytes)
{
	__u32 index = reason * 2 + direction;
	struct metric *metric = bpf_map_lookup_elem(&cp_metrics_v1, &index);

	if (metric) {
		metric->packets++;
		metric->bytes += bytes;
	}
}

/*
 * Takes one drop event's worth of credit from this CPU's bucket. A price is rounded up: never more than the rate. A
 * packet that interrupted another's has a later time than that one, which then gains nothing.
 */
static __always_inline bool may_report_drop(struct event_state *state, __u64 now)
{
	__u64 price, full, credit;

	if (!cfg_event_rate)
		return true;
	price = (1000000000ULL + cfg_event_rate - 1) / cfg_event_rate;
	full = price * cfg_event_burst;
	if (now < state->bucket_time)
		now = state->bucket_time;
	credit = state->bucket_credit + (now - state->bucket_time);
	if (credit > full)
		credit = full;
	state->bucket_time = now;
	state->bucket_credit = credit;
	if (credit < price)
		return false;
	state->bucket_credit = credit - price;
	return true;
}

/* Nobody is woken for a record, only for each quarter of a ring; the reader has a timer for the rest. */
static __always_inline __u64 wakeup_flags(void *ring)
{
	__u64 quarter = bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 4;
	__u64 unread = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);

	if (unread >= quarter && (unread & (quarter - 1)) < RECORD_BYTES)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* `type` is an enum event_type, and EVENT_LIMITED; `reason` is a drop's. Gives 0. */
__attribute__((noinline)) int event_send(const struct packet *p, __u32 type, __u32 reason)
{
	__u32 cpu = bpf_get_smp_processor_id(), ring_index = cpu % EVENT_RINGS;
	struct event_state *state = bpf_map_lookup_elem(&cp_evstate_v1, &zero);
	__u64 now = bpf_ktime_get_ns();
	struct event *e;
	void *ring;
	__u32 seq;

	if (!p || !state)
		return 0;
	if ((type == EVENT_DROP || type & EVENT_LIMITED) && !may_report_drop(state, now)) {
		__sync_fetch_and_add(&state->held_back, 1);
		return 0;
	}
	type &= 0xff;
	seq = __sync_fetch_and_add(&state->seq, 1);
	ring = bpf_map_lookup_elem(&cp_events_v1, &ring_index);
	e = ring ? bpf_ringbuf_reserve(ring, sizeof(*e), 0) : NULL;
	if (!e) {
		__sync_fetch_and_add(&state->lost, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->ktime = now;
	e->seq = seq;
	e->cpu = cpu;
	e->type = type;
	e->reason = reason;
	e->saddr = p->saddr;
	e->daddr = p->daddr;
	e->sport = p->sport;
	e->dport = p->dport;
	e->protocol = p->protocol;
	e->flags = p->flags | (addr_is_ipv4(&p->saddr) ? 0 : EVENT_IPV6);
	e->tcp_flags = p->tcp_flags;
	e->hook = p->hook;
	e->src_identity = p->src_identity;
	e->dst_identity = p->dst_identity;
	e->src_endpoint = p->src_slot;
	e->dst_endpoint = p->dst_slot;
	e->egress = p->egress;
	e->ingress = p->ingress;
	e->ifindex = p->ifindex;
	e->length = p->length;
	if (type == EVENT_DROP) {
		e->line = p->line;
		e->file = p->file;
		e->ext_error = p->ext_error;
		e->packets[0] = 1;
	} else if (type == EVENT_FLOW) {
		e->packets[0] = 1;
		e->bytes[0] = p->length;
	} else {
		struct flow_sum sum;

		sum_flow(&sum, p->counter, p->flow);
		for (__u32 way = 0; way < 2; way++) {
			e->packets[way] = sum.total.packets[way] > 0xffffffff ? 0xffffffff : sum.total.packets[way];
			e->bytes[way] = sum.total.bytes[way];
		}
	}
	bpf_ringbuf_submit(e, wakeup_flags(ring));
	return 0;
}

/* What a pod sends, or the host where it is an endpoint, is its own side's drop until the other side was asked. */
static __always_inline __u32 drop_direction(const struct packet *p)
{
	bool sender = p->hook == HOOK_POD || (cfg_host_firewall && p->src_slot == HOST_SLOT);

	return sender && p->ingress.verdict == RULE_NOT_ASKED ? EGRESS : INGRESS;
}

static __always_inline int drop(struct packet *p, int reason)
{
	count_metric(reason & 0xff, drop_direction(p), p->length);
	event_send(p, EVENT_DROP, reason);
	return TC_ACT_SHOT;
}

/* What nobody wants to read about: router solicitations, multicast reports. It is counted. */
static __always_inline int drop_silently(const struct packet *p, int reason)
{
	count_metric(reason & 0xff, p->hook == HOOK_POD ? EGRESS : INGRESS, p->length);
	return TC_ACT_SHOT;
}
