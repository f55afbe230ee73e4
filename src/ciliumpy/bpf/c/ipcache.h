/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Address -> identity and place. */
#pragma once

#include "config.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct ipcache_entry *ipcache_find(const struct addr *a)
{
	struct ipcache_entry *entry = bpf_map_lookup_elem(&cp_iphost_v1, a);
	struct ipcache_prefix prefix = { .prefixlen = 128 };

	if (entry)
		return entry;
	prefix.addr = *a;
	return bpf_map_lookup_elem(&cp_ipcidr_v1, &prefix);
}

/* What nobody has named: the world, in dual stack by family. */
static __always_inline __u32 world_identity(const int family)
{
	if (!cfg_ipv4 || !cfg_ipv6)
		return IDENTITY_WORLD;
	return family == IPV4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
}

static __always_inline __u32 ipcache_identity(const struct ipcache_entry *entry, const int family)
{
	return entry && entry->identity ? entry->identity : world_identity(family);
}

/* The node itself: its own addresses and the gateway's. */
static __always_inline bool is_own(const struct addr *a, const struct ipcache_entry *entry, const int family)
{
	if (entry && entry->flags & IPCACHE_HOST)
		return true;
	if (family == IPV4)
		return addr_is(a, &cfg_router_ip4) || addr_is(a, &cfg_node_ip4);
	return addr_is(a, &cfg_router_ip6) || addr_is(a, &cfg_node_ip6);
}

static __always_inline bool is_known_node(const struct addr *a)
{
	struct ipcache_entry *entry = ipcache_find(a);

	return entry && entry->flags & IPCACHE_NODE;
}

/* Is `outer`, with its row, an address of the node whose tunnel ends at `tunnel`? It may send from any that it has. */
static __always_inline bool is_tunnel_end(const struct addr *outer, const struct ipcache_entry *node,
					  const struct addr *tunnel)
{
	return addr_equal(outer, tunnel) ||
	       (node && node->flags & IPCACHE_NODE && !addr_is_zero(tunnel) && addr_equal(&node->tunnel, tunnel));
}

/* The number a source identity has on the wire: local numbers mean nothing on another node. */
static __always_inline __u32 wire_identity(__u32 identity)
{
	if (identity == IDENTITY_HOST || identity >> 24 == IDENTITY_NODE_SCOPE >> 24)
		return IDENTITY_REMOTE_NODE;
	if (identity == IDENTITY_WORLD_IPV4 || identity == IDENTITY_WORLD_IPV6 || identity >= IDENTITY_LOCAL_SCOPE)
		return IDENTITY_WORLD;
	return identity;
}
