/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fast path: one lookup, one comparison of everything the decision rests on, and the decision again. No clock but
 * jiffies, nothing written but counts, times and flags.
 */
#pragma once

#include "conntrack.h"
#include "deliver.h"
#include "socket.h"

#define NOT_REPLAYED (-1)

/* Does this direction still come from where it was judged to come from? */
static __always_inline bool source_holds(const struct packet *p, const struct ct_half *half)
{
	if (half->source != p->hook)
		return false;
	if (p->hook == HOOK_POD)
		return half->from_pod.ifindex == p->ifindex &&
		       same_generation(half->source_slot, half->from_pod.generation);
	if (p->hook == HOOK_HOST || p->hook == HOOK_UPLINK)
		return half->from_stack.ifindex == p->forwarded;
	if (p->hook == HOOK_OVERLAY)
		return half->from_tunnel.vni == p->vni && addr_equal(&half->from_tunnel.outer, &p->outer);
	return true;
}

static __always_inline void report(struct packet *p, const struct ct_row *row, const struct ct_half *half, __u32 way,
				   __u32 event)
{
	p->flags = (way ? EVENT_REPLY : 0) | target_flag(half->target);
	p->src_slot = half->source_slot;
	p->dst_slot = half->target_slot;
	p->src_identity = way ? row->dst_identity : row->src_identity;
	p->dst_identity = way ? row->src_identity : row->dst_identity;
	p->egress = row->egress;
	p->ingress = row->ingress;
	p->counter = row->counter;
	p->flow = row->flow;
	event_send(p, event, 0);
}

/*
 * Once in a flow's life. What changed under us is moved by a later packet. Who began TCP is known for certain only from a
 * handshake: a flow that was found in its middle may be the wrong way round.
 */
static __always_inline int promote(struct __sk_buff *skb, const int family)
{
	struct scratch *s = scratch_at_hand();
	struct packet *p;
	struct ct_row *row;

	if (!s)
		return 0;
	p = &s->packet;
	row = bpf_map_lookup_elem(ct_unanswered(family), &p->key);
	if (!row || !ct_read(&s->row, row, ct_hash(&p->key, family)))
		return 0;
	ct_move(p, &s->row, family);
	if (s->row.seen[1] & TCP_SYN) {
		p->src_slot = s->row.half[0].source_slot;
		note_who_began(skb, p, family);
	}
	return 0;
}

__attribute__((noinline)) int promote4(struct __sk_buff *skb)
{
	return promote(skb, IPV4);
}

__attribute__((noinline)) int promote6(struct __sk_buff *skb)
{
	return promote(skb, IPV6);
}

static __always_inline int repeat(struct __sk_buff *skb, struct scratch *s, const int family)
{
	struct packet *p = &s->packet;
	struct ct_half *half = &s->half;
	struct ct_row *row = ct_lookup(p, family);
	__u32 now = ct_now(), way, expires, event, counter, flow, stats;
	__u8 seen;
	__u64 nonce;

	if (!row)
		return NOT_REPLAYED;
	/* As in ct_read: the end first, the beginning last. */
	nonce = READ_ONCE(row->nonce);
	barrier();
	AT_ROW_HELD(row);
	way = p->direction != row->origin;
	*half = row->half[way & 1];
	expires = row->expires;
	seen = row->seen[0] | row->seen[1];
	counter = row->counter;
	flow = row->flow;
	stats = *(const __u32 *)row->stat;
	barrier();
	if ((READ_ONCE(row->tag) ^ nonce) != ct_hash(&p->key, family))
		return NOT_REPLAYED;

	if (ct_expired(expires, now) || half->verdict != CT_ALLOWED || !source_holds(p, half))
		return NOT_REPLAYED;
	if (!half->epoch || half->epoch != epoch_sum(p, half->source_slot, half->target_slot, family))
		return NOT_REPLAYED;
	if (half->target == TARGET_LOCAL && !same_generation(half->target_slot, half->to_pod.generation))
		return NOT_REPLAYED;
	if (!way && seen & TCP_RST && !(p->tcp_flags & TCP_RST)) /* the reset was not believed */
		return NOT_REPLAYED;

	event = ct_touch(row, p, way, now);
	if (!p->answered && ct_answers(p, row->seen, way))
		family == IPV4 ? promote4(skb) : promote6(skb);
	count_flow(counter, flow, way, p->length, stats);
	if (event)
		report(p, row, half, way, event);
	return deliver(skb, p, half, family);
}

__attribute__((noinline)) int replay4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? repeat(skb, s, IPV4) : TC_ACT_SHOT;
}

__attribute__((noinline)) int replay6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? repeat(skb, s, IPV6) : TC_ACT_SHOT;
}
