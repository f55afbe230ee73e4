/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The slow path decides: a flow's first packet of each direction, whatever is to be judged again, and what has no row.
 * Its decision goes into the row; replay.h repeats it.
 */
#pragma once

#include "conntrack.h"
#include "deliver.h"
#include "related.h"
#include "resolve.h"

/* Is the original direction's decision, found in the row, still what the tables say? Then a reply need not judge it. */
static __always_inline bool original_stands(const struct packet *p, const struct ct_row *old, const struct ct_half *half)
{
	return half->epoch && old->half[0].epoch == half->epoch && old->half[0].source_slot == p->dst_slot &&
	       old->half[0].target_slot == p->src_slot && old->src_identity == p->dst_identity &&
	       old->dst_identity == p->src_identity;
}

/* A reply may pass as long as what it answers may. */
static __always_inline int judge_original(struct packet *p, const int family, const struct ct_row *old)
{
	bool tunnelled = old->half[0].source == HOOK_OVERLAY; /* the sender's node knows its identity before we do */
	struct ends ends = {
		.src_slot = p->dst_slot,
		.dst_slot = p->src_slot,
		.src_identity = tunnelled ? old->src_identity : p->dst_identity,
		.dst_identity = p->src_identity,
		.port = p->kind == KIND_ECHO ? ICMP_ECHO_REQUEST(family) : p->sport,
		.protocol = p->protocol,
		.from_host = old->half[0].source == HOOK_HOST && p->dst_identity == IDENTITY_HOST,
	};

	return judge(p, &ends, &p->egress, &p->ingress);
}

static __always_inline int judge_packet(struct packet *p)
{
	struct ends ends = {
		.src_slot = p->src_slot,
		.dst_slot = p->dst_slot,
		.src_identity = p->src_identity,
		.dst_identity = p->dst_identity,
		.port = p->kind == KIND_PORTS ? p->dport : p->sport,
		.protocol = p->protocol,
		.from_host = p->hook == HOOK_HOST && p->src_identity == IDENTITY_HOST,
	};

	return judge(p, &ends, &p->egress, &p->ingress);
}

/* Between two pods of this node the way back is known at once. */
static __always_inline void mirror(struct ct_half *back, const struct ct_half *half)
{
	struct endpoint *ep = endpoint_of(half->source_slot);

	if (half->source != HOOK_POD || half->target != TARGET_LOCAL || !ep ||
	    ep->generation != half->from_pod.generation)
		return;
	__builtin_memset(back, 0, sizeof(*back));
	back->epoch = half->epoch;
	back->verdict = CT_ALLOWED;
	back->source = HOOK_POD;
	back->source_slot = half->target_slot;
	back->from_pod.ifindex = half->to_pod.ifindex;
	back->from_pod.generation = half->to_pod.generation;
	back->target_slot = half->source_slot;
	aim_at_pod(back, ep);
}

/* Finds the flow's row and copies it. 0: none, 1: there, but past its time or not to be read, 2: copied. */
static __always_inline int find(const struct packet *p, const int family, struct ct_row *old, __u32 now)
{
	__u64 hash = ct_hash(&p->key, family);
	struct ct_row *row;

	for (int i = 0; i < 2; i++) { /* one that is recycled while we read is not found again */
		row = bpf_map_lookup_elem(ct_map(family), &p->key);
		if (!row)
			return 0;
		if (ct_read(old, row, hash))
			return ct_expired(old->expires, now) ? 1 : 2;
	}
	return 1;
}

static __always_inline bool makes_a_row(const struct packet *p, const int family)
{
	if (p->kind == KIND_ECHO)
		return p->sport == ICMP_ECHO_REQUEST(family); /* an answer alone gives nobody the right to ask */
	return p->kind == KIND_PORTS && !(p->tcp_flags & (TCP_FIN | TCP_RST));
}

/* A new flow: both legs asked, a row of its own. `flags`: how the row is to be written. */
static __always_inline int first(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s, __u32 now,
				 __u64 flags)
{
	struct ct_row *row = &s->row;
	int reason = judge_packet(p);
	long rc;

	if (p->kind == KIND_ERROR || (p->protocol == IPPROTO_TCP && !bare_syn(p)) ||
	    (p->kind == KIND_ECHO && p->sport != ICMP_ECHO_REQUEST(family)))
		p->flags |= EVENT_REPLY_UNKNOWN;
	if (reason)
		return drop(p, reason);
	AT_JUDGED(p);
	p->flags |= target_flag(s->half.target);
	p->counter = 0;
	p->flow = 0;
	if (makes_a_row(p, family)) {
		__builtin_memset(row, 0, sizeof(*row));
		row->half[0] = s->half;
		mirror(&row->half[1], &s->half);
		row->egress = p->egress;
		row->ingress = p->ingress;
		row->src_identity = p->src_identity;
		row->dst_identity = p->dst_identity;
		row->origin = p->direction;
		row->protocol = p->protocol;
		row->created = now;
		row->reported[1] = now - cfg_report_interval; /* its first packet is told at once */
		ct_touch(row, p, 0, now);
		rc = ct_write(p, row, family, flags);
		if (rc && rc != -17 && rc != -2) /* another CPU was first, or the old row went meanwhile */
			return drop(p, REFUSE(p, FILE_SLOW, DROP_CT_CREATE_FAILED));
		count_flow(row->counter, row->flow, 0, p->length);
	}
	if (p->kind != KIND_PORTS || makes_a_row(p, family))
		event_send(p, EVENT_FLOW, 0);
	return deliver(skb, p, &s->half, family);
}

/* One more packet of a flow whose row stands: this direction's half is written anew, the other stays as it was read. */
static __always_inline int again(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s, __u32 now,
				 __u32 way)
{
	struct ct_row *row = &s->row;
	__u32 event;

	AT_JUDGED(p);
	*row = s->old;
	if (way) {
		row->half[1] = s->half;
		p->flags |= EVENT_REPLY;
	} else {
		row->half[0] = s->half;
		mirror(&row->half[1], &s->half);
		row->egress = p->egress;
		row->ingress = p->ingress;
		row->src_identity = p->src_identity;
		row->dst_identity = p->dst_identity;
		if (!(p->tcp_flags & TCP_RST)) { /* whoever goes on sending was not reset */
			row->seen[0] &= ~TCP_RST;
			row->seen[1] &= ~TCP_RST;
		}
	}
	event = ct_touch(row, p, way, now);
	ct_write(p, row, family, BPF_EXIST);
	count_flow(row->counter, row->flow, way, p->length);
	p->flags |= target_flag(s->half.target);
	if (event) {
		p->egress = row->egress;
		p->ingress = row->ingress;
		p->counter = row->counter;
		p->flow = row->flow;
		event_send(p, event, 0);
	}
	return deliver(skb, p, &s->half, family);
}

static __always_inline int decide(struct __sk_buff *skb, struct packet *p, const int family)
{
	struct scratch *s = bpf_map_lookup_elem(&cp_scratch_v1, &zero);
	__u32 now = ct_now(), way = 0;
	__u64 global = global_epoch();
	int reason, found = 0;

	if (!s)
		return TC_ACT_SHOT;
	__builtin_memset(&s->half, 0, sizeof(s->half));
	s->half.epoch = global;
	reason = resolve_source(p, family, &s->half);
	if (!reason)
		reason = resolve_target(skb, p, family, s);
	if (reason)
		return drop(p, reason);
	if (s->half.target == TARGET_NONE)
		return TC_ACT_OK;
	s->half.verdict = CT_ALLOWED;
	if (!global) /* nobody has said yet that the tables are whole */
		s->half.epoch = 0;

	if (p->kind == KIND_ERROR && is_related(skb, p, family, s, now)) {
		p->flags |= target_flag(s->half.target);
		return deliver(skb, p, &s->half, family);
	}
	if (p->kind == KIND_PORTS || p->kind == KIND_ECHO)
		found = find(p, family, &s->old, now);
	if (found != 2)
		return first(skb, p, family, s, now, found ? BPF_EXIST : BPF_NOEXIST);

	way = p->direction != s->old.origin;
	if (bare_syn(p) && (way || ct_closing(s->old.seen)))
		return first(skb, p, family, s, now, BPF_EXIST);
	if (way) {
		if (original_stands(p, &s->old, &s->half) || !judge_original(p, family, &s->old))
			return again(skb, p, family, s, now, way);
		ct_delete(p, family);
		return first(skb, p, family, s, now, BPF_NOEXIST);
	}
	reason = judge_packet(p);
	if (reason) {
		ct_delete(p, family);
		return drop(p, reason);
	}
	return again(skb, p, family, s, now, way);
}

__attribute__((noinline)) int slow_path4(struct __sk_buff *skb, struct packet *p)
{
	return p ? decide(skb, p, IPV4) : TC_ACT_SHOT;
}

__attribute__((noinline)) int slow_path6(struct __sk_buff *skb, struct packet *p)
{
	return p ? decide(skb, p, IPV6) : TC_ACT_SHOT;
}
