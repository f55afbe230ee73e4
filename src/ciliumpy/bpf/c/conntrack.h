/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Conntrack rows: reading one that may be recycled under us, writing one whole, and the small state that is written in
 * place. Decisions change by map update only.
 */
#pragma once

#include "events.h"

/* Points where a test object steps in; nothing here. */
#ifndef AT_ROW_HELD
#define AT_ROW_HELD(row)
#endif
#ifndef AT_JUDGED
#define AT_JUDGED(p)
#endif
#ifndef AT_HANDED_OVER
#define AT_HANDED_OVER(skb)
#endif
#ifndef JIFFIES
#define JIFFIES() bpf_jiffies64()
#endif

static __always_inline void *ct_map(const int family)
{
	return family == IPV4 ? (void *)&cp_ct4_v1 : (void *)&cp_ct6_v1;
}

/* Of flows that nobody has answered yet. */
static __always_inline void *ct_unanswered(const int family)
{
	return family == IPV4 ? (void *)&cp_ctu4_v1 : (void *)&cp_ctu6_v1;
}

/* Where a key is in both, for a moment between two CPUs, the main one has it. */
static __always_inline struct ct_row *ct_lookup(struct packet *p, const int family)
{
	struct ct_row *row = bpf_map_lookup_elem(ct_map(family), &p->key);

	p->answered = !!row;
	if (!row)
		row = bpf_map_lookup_elem(ct_unanswered(family), &p->key);
	p->rowless = !row;
	return row;
}

static __always_inline __u32 ct_now(void)
{
	return JIFFIES() >> 8; /* as u32 good for 36 years at HZ 1000; compared by signed difference all the same */
}

static __always_inline __u64 ct_hash(const union ct_key *key, const int family)
{
	const __u64 odd = 0x9e3779b97f4a7c15ULL;
	__u64 h = key->words[0] * odd;

	h = (h ^ (h >> 32) ^ key->words[1]) * odd;
	if (family == IPV6) {
		h = (h ^ (h >> 32) ^ key->words[2]) * odd;
		h = (h ^ (h >> 32) ^ key->words[3]) * odd;
		h = (h ^ (h >> 32) ^ key->words[4]) * odd;
	}
	return h ^ (h >> 32);
}

static __always_inline bool ct_expired(__u32 expires, __u32 now)
{
	return (__s32)(expires - now) < 0;
}

static __always_inline bool ct_closing(const __u8 seen[2])
{
	return ((seen[0] & seen[1]) & TCP_FIN) || ((seen[0] | seen[1]) & TCP_RST);
}

/*
 * A copy that is of this key and of one write, or nothing. The kernel writes a value from its beginning to its end, so
 * the end is read first and the beginning last: if both are of one write, all between is.
 */
static __always_inline bool ct_read(struct ct_row *copy, const struct ct_row *row, __u64 hash)
{
	__u64 nonce = READ_ONCE(row->nonce);

	barrier();
	__builtin_memcpy(copy, row, sizeof(*copy));
	barrier();
	return (READ_ONCE(row->tag) ^ nonce) == hash && copy->nonce == nonce;
}

/*
 * A flow of a pod that is gone: whoever has its slot or address now never asked, and was never asked. A row whose original
 * direction was written anew names the pods of now.
 */
static __always_inline bool ct_orphaned(const struct ct_row *row)
{
	const struct ct_half *half = &row->half[0];

	if (half->source == HOOK_POD && !same_generation(half->source_slot, half->from_pod.generation))
		return true;
	return half->target == TARGET_LOCAL && !same_generation(half->target_slot, half->to_pod.generation);
}

static __always_inline __u64 next_number(__u32 of)
{
	__u64 *last = bpf_map_lookup_elem(&cp_flowseq_v2, &of);

	return last ? __sync_fetch_and_add(last, 1) + 1 : 0;
}

static __always_inline __u64 ct_nonce(void)
{
	return next_number(NUMBER_OF_WRITES);
}

static __always_inline void ct_seal(const struct packet *p, struct ct_row *row, const int family)
{
	__u64 nonce = ct_nonce();

	row->tag = ct_hash(&p->key, family) ^ nonce;
	row->nonce = nonce;
	if (!row->flow) {
		row->flow = next_number(NUMBER_OF_FLOWS);
		row->counter = row->flow % cfg_counters;
	}
}

/*
 * Into the map that it is in, or belongs into: BPF_NOEXIST where there was no row, BPF_EXIST where there was, so that a late
 * writer never brings back what was deleted.
 */
static __always_inline long ct_write(const struct packet *p, struct ct_row *row, const int family, __u64 flags)
{
	ct_seal(p, row, family);
	if (p->answered)
		return bpf_map_update_elem(ct_map(family), &p->key, row, flags);
	return bpf_map_update_elem(ct_unanswered(family), &p->key, row, flags);
}

static __always_inline void ct_delete(struct packet *p, const int family)
{
	bpf_map_delete_elem(ct_map(family), &p->key);
	bpf_map_delete_elem(ct_unanswered(family), &p->key);
	p->answered = 0; /* whatever comes next is a new flow */
}

/*
 * Does this packet make its flow an answered one? TCP: the originator has heard more than a reset and says so. All else: the
 * first answer.
 */
static __always_inline bool ct_answers(const struct packet *p, const __u8 seen[2], __u32 way)
{
	if (p->protocol != IPPROTO_TCP)
		return way;
	return !way && (p->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK && seen[1] & TCP_ACK;
}

/*
 * An unanswered row becomes an answered one. First there, then away from here: at no time is it in neither. Who finds it gone
 * from here came after one who deleted it, and takes it back; who finds it there leaves the rest to who put it there.
 */
static __always_inline void ct_move(const struct packet *p, struct ct_row *row, const int family)
{
	ct_seal(p, row, family);
	if (bpf_map_update_elem(ct_map(family), &p->key, row, BPF_NOEXIST))
		return;
	if (bpf_map_delete_elem(ct_unanswered(family), &p->key))
		bpf_map_delete_elem(ct_map(family), &p->key);
}

/*
 * State after one more packet of a direction (`way` 0 original, 1 reply): counts, flags, life. Written in place, so it
 * must never widen what is allowed; a lost byte shortens a life or costs a judgement. Gives the event that is due, or 0.
 */
static __always_inline __u32 ct_touch(struct ct_row *row, const struct packet *p, __u32 way, __u32 now)
{
	__u32 event = 0, expires = now + cfg_ct_timeout_any;
	__u8 fresh = 0;

	way &= 1;
	if (p->protocol == IPPROTO_TCP) {
		__u8 seen[2] = { row->seen[0], row->seen[1] };
		bool was_closing = ct_closing(seen);

		__u8 flags = p->tcp_flags & (TCP_STATE | (p->tcp_flags & TCP_RST ? 0 : TCP_ACK));

		fresh = flags & ~seen[way];
		if (fresh) {
			seen[way] |= fresh;
			row->seen[way] = seen[way];
			fresh &= TCP_STATE;
		}
		if (was_closing) {
			expires = row->expires;
		} else if (ct_closing(seen)) {
			expires = now + cfg_ct_timeout_fin;
			event = EVENT_CLOSE;
		} else {
			expires = now + (bare_syn(p) ? cfg_ct_timeout_syn : cfg_ct_timeout_tcp);
		}
	}
	if (row->expires != expires)
		row->expires = expires;
	if (!event && (fresh || now - row->reported[way] >= cfg_report_interval))
		event = EVENT_AGGREGATE;
	if (event)
		row->reported[way] = now;
	return event;
}
