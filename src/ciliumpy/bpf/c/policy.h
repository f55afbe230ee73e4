/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Policy: (set, direction, protocol, port) -> class; class and the peer's selector vector -> the first level that meets.
 * Three lookups however many rules and identities there are. Everything that is missing denies.
 */
#pragma once

#include "maps.h"
#include "packet.h"

#define BIT_EVERYBODY 0xffff
#define PART_WORDS 16 /* compared without a branch; of more at once clang would keep some on the stack, and that is full */

/* judge's third argument in one word, as a global function takes few */
#define ASK(direction, protocol, port) ((__u32)(direction) << 24 | (__u32)(protocol) << 16 | (__u16)(port))

static __always_inline __u64 rule(__u32 class_id, __u16 bit, __u8 level, __u8 verdict)
{
	union rule r = { .ref = { .class_id = class_id, .bit = bit, .level = level, .verdict = verdict } };

	return r.value;
}

static __always_inline __u8 rule_of_level(__u8 verdict)
{
	if (verdict == LEVEL_ALLOW)
		return RULE_ALLOWED;
	if (verdict == LEVEL_REDIRECT)
		return RULE_REDIRECTED;
	return RULE_DENIED; /* deny, and whatever this version does not know */
}

/* Where a pass leads to: forward, past the rest of its tier. What leads nowhere is no pass, but a denial. */
static __always_inline bool passes(const struct level *level, __u32 l)
{
	return level->verdict == LEVEL_PASS && level->proxy_port > l;
}

/*
 * The first level that meets the peer, those that a pass leads past left out. An identity without a vector meets every deny
 * level and else only what meets everybody. Where to go on stands in memory, of which the verifier assumes nothing: of a
 * register it knows what each way here has left in it, and walks all ways.
 */
__attribute__((noinline)) __u64 policy_match(const struct port_class *class, const struct vector *peer, __u32 class_id)
{
	struct scratch *s = scratch_at_hand();
	volatile __u32 *next;

	if (!class || !s)
		return rule(class_id, 0, 0, RULE_NO_POLICY);
	next = &s->next_level;
	*next = 0;
	for (__u32 l = 0; l < CLASS_LEVELS; l++) {
		const struct level *level = &class->level[l];
		__u64 any = 0;

		if (!level->verdict)
			break;
		if (l < *next)
			continue;
		if (level->flags & LEVEL_EVERYBODY) {
			if (!passes(level, l))
				return rule(class_id, BIT_EVERYBODY, l, rule_of_level(level->verdict));
			*next = level->proxy_port;
			continue;
		}
		if (!peer) {
			if (level->verdict == LEVEL_DENY)
				return rule(class_id, BIT_EVERYBODY, l, RULE_DENIED);
			continue;
		}
		barrier_var(peer); /* or clang works out addresses in it before it is known to be there */
#pragma clang loop unroll(disable)
		for (int part = 0; part < VECTOR_WORDS; part += PART_WORDS)
#pragma unroll
			for (int w = part; w < part + PART_WORDS; w++)
				any |= level->mask[w] & peer->words[w];
		if (!any)
			continue;
		if (passes(level, l)) {
			*next = level->proxy_port;
			continue;
		}
		for (int w = 0; w < VECTOR_WORDS; w++) {
			__u64 common = level->mask[w] & peer->words[w];
			__u16 bit = w * 64;

			if (!common)
				continue;
#pragma unroll
			for (int half = 32; half; half >>= 1) {
				if (!(common & ((1ULL << half) - 1))) {
					common >>= half;
					bit += half;
				}
			}
			return rule(class_id, bit, l, rule_of_level(level->verdict));
		}
	}
	return rule(class_id, 0, 0, RULE_DEFAULT_DENIED);
}

static __always_inline __u32 range_bit(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return 1;
	case IPPROTO_UDP:
		return 2;
	case IPPROTO_SCTP:
		return 4;
	case IPPROTO_ICMP:
		return 8;
	case IPPROTO_ICMPV6:
		return 16;
	}
	return 0;
}

static __always_inline __u32 range_class(struct port_key *key)
{
	__u16 port = key->port;
	struct port_ranges *ranges;

	key->port = 0;
	ranges = bpf_map_lookup_elem(&cp_range_v1, key);
	if (!ranges)
		return 0;
	for (__u32 i = 0; i < RANGE_ENTRIES; i++) {
		const struct port_range *range = &ranges->range[i];

		if (i >= ranges->count || port < range->first)
			break;
		if (port <= range->last)
			return range->class_id;
	}
	return 0;
}

/* What set `set_id` says of peer `identity` for ASK(direction, protocol, port); a struct rule_ref as one word. */
__attribute__((noinline)) __u64 policy_judge(__u32 set_id, __u32 identity, __u32 ask)
{
	struct policy_set *set = bpf_map_lookup_elem(&cp_set_v2, &set_id);
	__u32 direction = (ask >> 24) & 1, class_id = 0, *exact;
	struct port_key key = {
		.set = set_id,
		.direction = direction,
		.protocol = ask >> 16,
		.port = ask,
	};
	struct port_class *class;
	union rule r;

	if (!set)
		return rule(0, 0, 0, RULE_NO_POLICY);
	if (set->has_exact[direction]) {
		exact = bpf_map_lookup_elem(&cp_port_v1, &key);
		if (exact)
			class_id = *exact;
	}
	if (!class_id && set->has_ranges[direction] & range_bit(key.protocol))
		class_id = range_class(&key);
	if (!class_id)
		class_id = set->default_class[direction];
	if (!class_id)
		return rule(0, set->denied_stat[direction], 0, RULE_DEFAULT_DENIED);
	class = bpf_map_lookup_elem(&cp_class_v2, &class_id);
	if (!class)
		return rule(class_id, 0, 0, RULE_NO_POLICY);
	r.value = policy_match(class, bpf_map_lookup_elem(&cp_vector_v1, &identity), class_id);
	if (r.ref.verdict == RULE_DEFAULT_DENIED)
		r.ref.bit = set->denied_stat[direction];
	return r.value;
}

static __always_inline int reason_of(__u8 verdict)
{
	switch (verdict) {
	case RULE_NOT_ENFORCED:
	case RULE_ALLOWED:
		return 0;
	case RULE_DENIED:
		return DROP_POLICY_DENY;
	case RULE_REDIRECTED: /* there is no proxy to redirect to */
		return DROP_NO_PROXY;
	}
	return DROP_POLICY;
}

/*
 * What a leg's rule makes of the packet: 0 or a drop reason. In audit mode what policy says is told, and the packet passes; a
 * set or class that is not there has said nothing.
 */
static __always_inline int follow(const struct endpoint *ep, struct rule_ref *ref)
{
	int reason = reason_of(ref->verdict);

	if (!reason || !(ep->flags & ENDPOINT_AUDIT) || ref->verdict == RULE_NO_POLICY)
		return reason;
	ref->verdict |= RULE_AUDITED;
	return 0;
}

/* A flow between two ends, as far as this node has to judge it. */
struct ends {
	__u32 src_slot;
	__u32 dst_slot;
	__u32 src_identity;
	__u32 dst_identity;
	__u16 port; /* ICMP: the type */
	__u8 protocol;
};

/* Both legs. Gives 0 or the drop reason, and the rules that decided. A pod may always talk to itself. */
static __always_inline int judge(struct packet *p, const struct ends *e, struct rule_ref *egress, struct rule_ref *ingress)
{
	union rule r = { .value = rule(0, 0, 0, RULE_NOT_ASKED) };
	bool itself = e->src_slot && e->src_slot == e->dst_slot;
	struct endpoint *ep;
	int reason;

	*egress = r.ref;
	*ingress = r.ref;
	if (e->src_slot) {
		ep = endpoint_of(e->src_slot);
		if (!ep)
			return REFUSE(p, FILE_POLICY, DROP_ENDPOINT_NOT_READY);
		r.value = rule(0, 0, 0, RULE_NOT_ENFORCED);
		if (ep->flags & ENDPOINT_ENFORCE_EGRESS && !itself)
			r.value = policy_judge(ep->policy_set, e->dst_identity, ASK(EGRESS, e->protocol, e->port));
		reason = follow(ep, &r.ref);
		*egress = r.ref;
		if (reason)
			return REFUSE(p, FILE_POLICY, reason);
	}
	if (e->dst_slot) {
		ep = endpoint_of(e->dst_slot);
		if (!ep)
			return REFUSE(p, FILE_POLICY, DROP_ENDPOINT_NOT_READY);
		r.value = rule(0, 0, 0, RULE_NOT_ENFORCED);
		if (ep->flags & ENDPOINT_ENFORCE_INGRESS && !itself)
			r.value = policy_judge(ep->policy_set, e->src_identity, ASK(INGRESS, e->protocol, e->port));
		reason = follow(ep, &r.ref);
		*ingress = r.ref;
		if (reason)
			return REFUSE(p, FILE_POLICY, reason);
	}
	return 0;
}
