/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Only the first fragment of a datagram has ports. Once it is allowed, it is remembered what it said, and each later one
 * is judged by that. One whose first was denied, refused or never came is dropped; so is one that writes over what was
 * judged: the receiver would put another header together than we have seen.
 */
#pragma once

#include "config.h"
#include "maps.h"

union fragment_key {
	struct frag4_key v4;
	struct frag6_key v6;
	__u64 words[5];
};

static __always_inline void *fragment_map(const int family)
{
	return family == IPV4 ? (void *)&cp_frag4_v1 : (void *)&cp_frag6_v1;
}

static __always_inline void fragment_key(union fragment_key *key, const struct packet *p, const int family)
{
	__builtin_memset(key, 0, sizeof(*key));
	if (family == IPV4) {
		key->v4.saddr = addr_ipv4(&p->saddr);
		key->v4.daddr = addr_ipv4(&p->daddr);
		key->v4.id = p->fragment_id;
		key->v4.protocol = p->protocol;
	} else { /* its receiver does not compare the protocol, which every fragment names */
		key->v6.saddr = p->saddr;
		key->v6.daddr = p->daddr;
		key->v6.id = p->fragment_id;
	}
}

static __always_inline __u64 fragment_tag(const union fragment_key *key, const struct fragment *f)
{
	const __u64 odd = 0x9e3779b97f4a7c15ULL, *value = (const __u64 *)f;
	__u64 h = value[0];

#pragma unroll
	for (int i = 0; i < 5; i++)
		h = ((h ^ (h >> 32)) * odd) ^ key->words[i];
	h = ((h ^ (h >> 32)) * odd) ^ value[1];
	return (h ^ (h >> 32)) * odd;
}

static __always_inline __u32 fragment_now(void)
{
	return bpf_jiffies64() >> 8;
}

/* Fills in what the first fragment said, for one that begins `offset` bytes into the datagram. Gives 0 or a reason. */
static __always_inline int recall_first(struct packet *p, const int family, __u32 offset, __u16 *echo)
{
	union fragment_key key;
	struct fragment *row, first;

	fragment_key(&key, p, family);
	row = bpf_map_lookup_elem(fragment_map(family), &key);
	if (!row)
		return REFUSE(p, FILE_FRAGMENT, DROP_FRAGMENT_UNKNOWN);
	first = *row;
	barrier();
	if (first.tag != fragment_tag(&key, &first) || (__s32)(first.expires - fragment_now()) < 0)
		return REFUSE(p, FILE_FRAGMENT, DROP_FRAGMENT_UNKNOWN);
	if (offset < first.end)
		return REFUSE(p, FILE_FRAGMENT, DROP_INVALID);
	p->protocol = first.protocol;
	p->tcp_flags = first.tcp_flags & ~TCP_SYN; /* one SYN a datagram */
	p->sport = first.sport;
	p->dport = first.dport;
	*echo = first.echo;
	return 0;
}

/*
 * After the judgement of a first fragment by someone who may send it: what was denied leaves nothing behind for its later
 * ones, not even what an earlier datagram of that number left. Errors fit into a packet: fragments of one are refused.
 */
static __always_inline void remember_first(const struct packet *p, const int family, int reason)
{
	struct fragment first = {
		.sport = p->sport,
		.dport = p->dport,
		.end = p->fragment_end,
		.expires = fragment_now() + cfg_fragment_timeout,
		.protocol = p->protocol,
		.tcp_flags = p->tcp_flags,
	};
	union fragment_key key;

	fragment_key(&key, p, family);
	if (reason || p->kind == KIND_ERROR) {
		bpf_map_delete_elem(fragment_map(family), &key);
		return;
	}
	if (p->kind == KIND_ECHO)
		first.echo = family == IPV4 ? p->key.v4.port[0] : p->key.v6.port[0];
	first.tag = fragment_tag(&key, &first);
	bpf_map_update_elem(fragment_map(family), &key, &first, BPF_ANY);
}
