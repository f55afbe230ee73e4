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
#include "socket.h"

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
	/* The sender's node knows its identity before we do; but it may be long since it told us. */
	bool told = old->half[0].source == HOOK_OVERLAY && !bpf_map_lookup_elem(&cp_iphost_v1, &p->daddr);
	bool stack = old->half[0].source == HOOK_HOST && p->dst_identity == IDENTITY_HOST;
	/* What the stack sent on for others with its own address: the answer comes to it, but is not the host's. */
	bool passed_on = old->half[0].source == HOOK_UPLINK && !old->half[0].source_slot;
	struct ends ends = {
		.src_slot = passed_on ? 0 : p->dst_slot,
		.dst_slot = p->src_slot,
		.src_identity = told || stack ? old->src_identity : p->dst_identity,
		.dst_identity = p->src_identity,
		.port = p->kind == KIND_ECHO ? ICMP_ECHO_REQUEST(family) : p->sport,
		.protocol = p->protocol,
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
	};

	return judge(p, &ends, &p->egress, &p->ingress);
}

/* Is this, which is denied as a question, an answer to a connection whose row is lost? It gets none by that. */
static __always_inline bool answers_a_connection(struct __sk_buff *skb, struct packet *p, const int family)
{
	struct ends ends = {
		.src_slot = p->dst_slot,
		.dst_slot = p->src_slot,
		.src_identity = p->dst_identity,
		.dst_identity = p->src_identity,
		.port = p->sport,
		.protocol = p->protocol,
	};
	struct rule_ref egress, ingress;
	__u16 line = p->line;
	__u8 file = p->file;

	if (p->protocol != IPPROTO_TCP || !p->dst_slot || p->fragment || bare_syn(p))
		return false;
	if (!judge(p, &ends, &egress, &ingress) && (family == IPV4 ? receiver_began4(skb) : receiver_began6(skb)))
		return true;
	p->line = line;
	p->file = file;
	return false;
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
static __always_inline int find(struct packet *p, const int family, struct ct_row *old, __u32 now)
{
	__u64 hash = ct_hash(&p->key, family);
	struct ct_row *row;

	if (p->rowless) /* the replay has looked; should another CPU have made one since, ours is refused */
		return 0;
	for (int i = 0; i < 2; i++) { /* one that is recycled while we read is not found again */
		row = ct_lookup(p, family);
		if (!row)
			return 0;
		if (!ct_read(old, row, hash))
			continue;
		if (ct_orphaned(old)) {
			ct_delete(p, family);
			return 0;
		}
		return ct_expired(old->expires, now) ? 1 : 2;
	}
	return 1;
}

static __always_inline bool makes_a_row(const struct packet *p, const int family)
{
	if (p->fragment == FRAGMENT_LATER)
		return false; /* its first one has */
	if (p->kind == KIND_ECHO)
		return p->sport == ICMP_ECHO_REQUEST(family); /* an answer alone gives nobody the right to ask */
	return p->kind == KIND_PORTS && !(p->tcp_flags & (TCP_FIN | TCP_RST));
}

static __always_inline void count_packet(const struct packet *p, const struct ct_row *row, __u32 way)
{
	count_flow(row->counter, row->flow, way, p->length, *(const __u32 *)row->stat);
}

/* A new flow, allowed: a row of its own. `flags`: how it is to be written. Gives 0 or a drop reason. */
static __always_inline int open_flow(struct packet *p, const int family, struct scratch *s, __u32 now, __u64 flags)
{
	struct ct_row *row = &s->row;
	long rc;

	if (!makes_a_row(p, family)) {
		p->counter = 0;
		count_rules(p);
		if (p->kind != KIND_PORTS && p->fragment != FRAGMENT_LATER && !p->odd) /* what is left of TCP after its end is no news */
			event_send(p, EVENT_FLOW | EVENT_LIMITED, 0);
		return 0;
	}
	__builtin_memset(row, 0, sizeof(*row));
	row->half[0] = s->half;
	mirror(&row->half[1], &s->half);
	keep_rules(row, p);
	row->src_identity = p->src_identity;
	row->dst_identity = p->dst_identity;
	row->origin = p->direction;
	row->protocol = p->protocol;
	row->created = now;
	row->reported[1] = now - cfg_report_interval; /* the first answer is told at once */
	ct_touch(row, p, 0, now);
	rc = ct_write(p, row, family, flags);
	if (rc && rc != -EEXIST && rc != -ENOENT) /* another CPU was first, or the old row went meanwhile */
		return REFUSE(p, FILE_SLOW, DROP_CT_CREATE_FAILED);
	count_packet(p, row, 0);
	event_send(p, EVENT_FLOW, 0);
	return 0;
}

/* One more packet of a flow whose row stands: this direction's half is written anew, the other stays as it was read. */
static __always_inline void renew_flow(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s,
				       __u32 now, __u32 way)
{
	struct ct_row *row = &s->row;
	bool elsewhere = false;
	__u32 event;

	*row = s->old;
	if (way) {
		row->half[1] = s->half;
		p->flags |= EVENT_REPLY;
	} else {
		row->half[0] = s->half;
		mirror(&row->half[1], &s->half);
		keep_rules(row, p);
		elsewhere = counts_elsewhere(row, &s->old);
		if (elsewhere)
			row->flow = 0; /* it gets another number, and counter */
		row->src_identity = p->src_identity;
		row->dst_identity = p->dst_identity;
		if (!(p->tcp_flags & TCP_RST)) { /* whoever goes on sending was not reset */
			row->seen[0] &= ~TCP_RST;
			row->seen[1] &= ~TCP_RST;
		}
	}
	event = ct_touch(row, p, way, now);
	if (!p->answered && ct_answers(p, row->seen, way)) {
		ct_move(p, row, family);
		if (row->seen[1] & TCP_SYN)
			note_who_began(skb, p, family);
	} else {
		ct_write(p, row, family, BPF_EXIST);
	}
	count_packet(p, row, way);
	if (elsewhere)
		carry_over(row->counter, row->flow, s->old.counter, s->old.flow);
	if (event) {
		p->egress = row->egress;
		p->ingress = row->ingress;
		p->counter = row->counter;
		p->flow = row->flow;
		event_send(p, event, 0);
	}
}

/* What nobody knows the direction of when there is no row. */
static __always_inline bool may_be_a_reply(const struct packet *p, const int family)
{
	return p->kind == KIND_ERROR || (p->protocol == IPPROTO_TCP && !bare_syn(p)) ||
	       (p->kind == KIND_ECHO && p->sport != ICMP_ECHO_REQUEST(family));
}

/* The verdict on a packet whose ends are resolved, and what of it goes into the row. Gives 0 or a drop reason. */
static __always_inline int judge_and_keep(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s,
					  __u32 now)
{
	int found = KIND_HAS_ROW(p->kind) ? find(p, family, &s->old, now) : 0;
	__u64 flags = found ? BPF_EXIST : BPF_NOEXIST;
	bool fresh = true;
	__u32 way = 0;
	int reason;

	if (found == 2) {
		way = p->direction != s->old.origin;
		fresh = bare_syn(p) && (way || ct_closing(s->old.seen));
		if (way && !fresh && !original_stands(p, &s->old, &s->half)) {
			reason = judge_original(p, family, &s->old);
			if (reason && p->protocol == IPPROTO_TCP)
				return reason; /* a connection that may not go on; a segment sent again must not begin it anew */
			if (reason) {
				ct_delete(p, family); /* what it answers is denied now: it stands for itself */
				flags = BPF_NOEXIST;
				fresh = true;
			}
		}
	}
	if (fresh && may_be_a_reply(p, family))
		p->flags |= EVENT_REPLY_UNKNOWN;
	if (fresh || !way) {
		reason = judge_packet(p);
		if (reason) {
			/* A connection's row stays, stale: it knows who has begun, whichever end speaks next. */
			if (!fresh && p->protocol != IPPROTO_TCP)
				ct_delete(p, family);
			if (fresh && reason != DROP_ENDPOINT_NOT_READY && answers_a_connection(skb, p, family))
				return 0;
			if (reason != DROP_ENDPOINT_NOT_READY)
				count_rules(p);
			return reason;
		}
	}
	AT_JUDGED(p);
	p->flags |= target_flag(s->half.target);
	if (fresh)
		return open_flow(p, family, s, now, flags);
	renew_flow(skb, p, family, s, now, way);
	return 0;
}

/* Between the host and its neighbours on the native device. */
static __always_inline bool on_native_link(const struct packet *p, const struct ct_half *half)
{
	return cfg_host_firewall &&
	       (p->hook == HOOK_UPLINK || (p->hook == HOOK_NETDEV && half->target == TARGET_HOST));
}

/* What could not be parsed goes to and from the host as long as no policy forbids anything. Gives 0, or why it is refused. */
static __always_inline int refuse_odd(const struct packet *p)
{
	struct endpoint *ep = endpoint_of(HOST_SLOT);
	__u32 asked = p->hook == HOOK_UPLINK ? ENDPOINT_ENFORCE_EGRESS : ENDPOINT_ENFORCE_INGRESS;

	return ep && (ep->flags & (asked | ENDPOINT_AUDIT)) == asked ? p->odd : 0;
}

static __always_inline int decide(struct __sk_buff *skb, struct scratch *s, const int family)
{
	struct packet *p = &s->packet;
	__u32 now = ct_now();
	__u64 global = global_epoch();
	int relation = UNRELATED, reason;

	/* The tables have IPv4 addresses in this form; in an IPv6 header they are nobody's. */
	if (family == IPV6 && (addr_is_ipv4(&p->saddr) || addr_is_ipv4(&p->daddr)))
		return drop(p, REFUSE(p, FILE_SLOW, DROP_INVALID));
	__builtin_memset(&s->half, 0, sizeof(s->half));
	s->half.epoch = global;
	reason = family == IPV4 ? resolve4(skb) : resolve6(skb);
	if (!reason && s->half.target == TARGET_NONE) {
		if (!cfg_host_firewall && p->kind == KIND_ERROR)
			hear_of_path_mtu(skb, p, family);
		return TC_ACT_OK;
	}
	/* Addresses of one link mean nothing beyond it; pods' only talk there is with neighbours. */
	if (!reason && family == IPV6 && !on_native_link(p, &s->half) &&
	    (addr_is_link_local6(&p->saddr) || addr_is_link_local6(&p->daddr)))
		reason = REFUSE(p, FILE_SLOW, DROP_INVALID);
	s->half.verdict = CT_ALLOWED;
	if (!global || p->unkept) /* nobody has said yet that the tables are whole */
		s->half.epoch = 0;
	if (cfg_host_firewall && !reason && p->odd && p->odd != DROP_CT_UNKNOWN_PROTOCOL) {
		reason = refuse_odd(p);
		return reason ? drop(p, reason) : TC_ACT_OK;
	}
	if (!reason && p->kind == KIND_ERROR)
		relation = family == IPV4 ? relation4(skb) : relation6(skb);
	if (relation == RELATED && !its_flow_may_be(p, s, family))
		relation = UNRELATED;
	if (relation == FORGED)
		reason = REFUSE(p, FILE_SLOW, DROP_INVALID);
	if (!reason && relation == UNRELATED) {
		reason = judge_and_keep(skb, p, family, s, now);
		if (p->fragment == FRAGMENT_FIRST)
			remember_first(p, family, reason);
	}
	return reason ? drop(p, reason) : deliver(skb, p, &s->half, family);
}

__attribute__((noinline)) int slow_path4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? decide(skb, s, IPV4) : TC_ACT_SHOT;
}

__attribute__((noinline)) int slow_path6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? decide(skb, s, IPV6) : TC_ACT_SHOT;
}
