/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who sent the packet and where it goes, from the tables. Fills in identities, endpoints, the source binding and the
 * target of this direction's half row. An endpoint's or a peer's epoch is read before its row: what changes in between
 * leaves the decision stale, never wrong. Of the tunnel's own ends there is no epoch but the global one.
 */
#pragma once

#include "ipcache.h"
#include "mtu.h"
#include "policy.h"

static __always_inline int source_pod(struct packet *p, const int family, struct ct_half *half)
{
	__u32 *slot = bpf_map_lookup_elem(&cp_link_v1, &p->ifindex);
	struct endpoint *ep;

	if (!slot || !*slot)
		return REFUSE(p, FILE_RESOLVE, DROP_ENDPOINT_NOT_READY);
	half->source_slot = *slot;
	half->epoch += end_epoch(*slot, &p->saddr, family);
	ep = endpoint_of(*slot);
	if (!ep || !ep->generation || ep->ifindex != p->ifindex || !(ep->flags & ENDPOINT_READY))
		return REFUSE(p, FILE_RESOLVE, DROP_ENDPOINT_NOT_READY);
	p->src_slot = *slot;
	p->src_identity = ep->identity;
	if (!addr_equal(&p->saddr, family == IPV4 ? &ep->ip4 : &ep->ip6) || addr_is_zero(&p->saddr))
		return REFUSE(p, FILE_RESOLVE, DROP_INVALID_SOURCE);
	half->from_pod.ifindex = ep->ifindex;
	half->from_pod.generation = ep->generation;
	return 0;
}

/* May that node send for this address? Pods and routers are behind one node, a node speaks for itself, the world for all. */
static __always_inline bool speaks_for(const struct packet *p, const struct ipcache_entry *entry,
				       const struct ipcache_entry *node)
{
	if (entry && entry->flags & IPCACHE_TUNNEL)
		return is_tunnel_end(&p->outer, node, &entry->tunnel);
	if (entry && entry->flags & IPCACHE_NODE)
		return addr_equal(&p->saddr, &p->outer) || is_tunnel_end(&p->outer, node, &entry->tunnel);
	return p->vni == IDENTITY_WORLD;
}

/* The VNI says who; remote nodes and the world are more than one identity, which the wire does not tell apart. */
static __always_inline int source_overlay(struct packet *p, const int family, struct ct_half *half)
{
	struct ipcache_entry *entry = ipcache_find(&p->saddr), *node = ipcache_find(&p->outer);

	half->from_tunnel.vni = p->vni;
	half->from_tunnel.outer = p->outer;
	if (!p->vni || p->vni == IDENTITY_HOST)
		return REFUSE(p, FILE_RESOLVE, DROP_INVALID_IDENTITY);
	p->src_identity = p->vni;
	if (p->vni == IDENTITY_REMOTE_NODE || p->vni == IDENTITY_WORLD) {
		__u32 identity = ipcache_identity(entry, family);

		p->src_identity = identity == IDENTITY_HOST ? p->vni : identity;
	}
	if (!node || !(node->flags & IPCACHE_NODE))
		return REFUSE(p, FILE_RESOLVE, DROP_UNKNOWN_SENDER);
	if (is_own(&p->saddr, entry, family) || bpf_map_lookup_elem(&cp_local_v1, &p->saddr) || !speaks_for(p, entry, node))
		return REFUSE(p, FILE_RESOLVE, DROP_INVALID_SOURCE);
	return 0;
}

/*
 * What the stack sends with our own address is the host's. What it forwards is not, even if it has our address: somebody
 * forged it on a device that nobody guards, or was given it by the node's own translation. Pods' packets are never
 * forwarded.
 */
static __always_inline int source_host(struct packet *p, const int family, struct ct_half *half)
{
	struct ipcache_entry *entry = ipcache_find(&p->saddr);

	half->from_stack.ifindex = p->forwarded;
	if (is_own(&p->saddr, entry, family)) {
		p->src_identity = p->forwarded ? world_identity(family) : IDENTITY_HOST;
		return 0;
	}
	p->src_identity = ipcache_identity(entry, family);
	p->unkept = half->source_slot != 0; /* its epoch says nothing of the address */
	if ((entry && entry->flags & IPCACHE_TUNNEL) || bpf_map_lookup_elem(&cp_local_v1, &p->saddr))
		return REFUSE(p, FILE_RESOLVE, DROP_INVALID_SOURCE);
	return 0;
}

/* Where the host is an endpoint: what its stack itself sends, whatever address that has. */
static __always_inline bool host_sends(const struct packet *p)
{
	return cfg_host_firewall && (p->hook == HOOK_HOST || p->hook == HOOK_UPLINK) && !p->forwarded;
}

/* The native network: neither we nor any pod send from there while there is a tunnel. */
static __always_inline int source_netdev(struct packet *p, const int family)
{
	struct ipcache_entry *entry = ipcache_find(&p->saddr);

	p->src_identity = ipcache_identity(entry, family);
	if (is_own(&p->saddr, entry, family) || (entry && entry->flags & IPCACHE_TUNNEL) ||
	    bpf_map_lookup_elem(&cp_local_v1, &p->saddr))
		return REFUSE(p, FILE_RESOLVE, DROP_INVALID_SOURCE);
	return 0;
}

static __always_inline int resolve_source(struct packet *p, const int family, struct ct_half *half)
{
	half->source = p->hook;
	if (host_sends(p)) {
		half->source_slot = p->src_slot = HOST_SLOT;
		half->epoch += end_epoch(HOST_SLOT, &p->saddr, family);
	} else if (p->hook != HOOK_POD) {
		half->epoch += end_epoch(0, &p->saddr, family);
	}
	switch (p->hook) {
	case HOOK_POD:
		return source_pod(p, family, half);
	case HOOK_OVERLAY:
		return source_overlay(p, family, half);
	case HOOK_HOST:
	case HOOK_UPLINK:
		return source_host(p, family, half);
	}
	return source_netdev(p, family);
}

static __always_inline void aim_at_pod(struct ct_half *half, const struct endpoint *ep)
{
	half->target = TARGET_LOCAL;
	half->flags = ep->flags & ENDPOINT_SAME_NETNS ? HALF_SAME_NETNS : 0;
	half->to_pod.ifindex = ep->ifindex;
	half->to_pod.generation = ep->generation;
	__builtin_memcpy(half->to_pod.dmac, ep->mac, ETH_ALEN);
	__builtin_memcpy(half->to_pod.smac, ep->host_mac, ETH_ALEN);
}

static __always_inline int target_pod(struct packet *p, const int family, struct ct_half *half,
				      const struct local_target *local)
{
	struct endpoint *ep;

	half->target_slot = local->slot;
	half->epoch += end_epoch(local->slot, &p->daddr, family);
	ep = endpoint_of(local->slot);
	if (!ep || !ep->generation || ep->generation != local->generation || !(ep->flags & ENDPOINT_READY))
		return REFUSE(p, FILE_RESOLVE, DROP_ENDPOINT_NOT_READY);
	p->dst_slot = local->slot;
	p->dst_identity = ep->identity;
	aim_at_pod(half, ep);
	return 0;
}

/* Forwarding is asked of the underlay device, where it is on; a pod's link may have it off. */
static __always_inline void way_of(struct bpf_fib_lookup *fib, const struct packet *p, const int family)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = cfg_netdev_ifindex;
	if (family == IPV4) {
		fib->family = FAMILY_INET;
		fib->ipv4_src = addr_ipv4(&p->saddr);
		fib->ipv4_dst = addr_ipv4(&p->daddr);
	} else {
		fib->family = FAMILY_INET6;
		__builtin_memcpy(fib->ipv6_src, &p->saddr, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &p->daddr, sizeof(fib->ipv6_dst));
	}
}

static __always_inline int target_route(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s)
{
	struct bpf_fib_lookup *fib = &s->fib;
	struct ct_half *half = &s->half;
	long rc;

	way_of(fib, p, family);
	fib->tot_len = cfg_pod_mtu; /* a way that takes less is noted, not refused: most packets are small */
	rc = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (rc == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		lower_path_mtu(fib->mtu_result);
		fib->ifindex = cfg_netdev_ifindex;
		fib->tot_len = 1;
		rc = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	}
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH) {
		p->ext_error = rc;
		return REFUSE(p, FILE_RESOLVE, DROP_NO_FIB);
	}
	if (fib->ifindex == cfg_host_ifindex || fib->ifindex == cfg_vxlan_ifindex) /* a pod's address without a pod */
		return REFUSE(p, FILE_RESOLVE, DROP_UNROUTABLE);
	half->target = TARGET_ROUTE;
	half->to_route.ifindex = fib->ifindex;
	if (fib->family == FAMILY_INET)
		addr_from_ipv4(&half->to_route.nexthop, fib->ipv4_dst);
	else
		__builtin_memcpy(&half->to_route.nexthop, fib->ipv6_dst, sizeof(fib->ipv6_dst));
	return 0;
}

/* Does the stack take for itself what ipcache does not know as ours, an address given a moment ago? Its routes say. */
static __always_inline bool stack_takes(struct __sk_buff *skb, const struct packet *p, const int family,
					struct bpf_fib_lookup *fib)
{
	struct endpoint *ep = endpoint_of(HOST_SLOT);
	long rc;

	if (family == IPV6 && addr_is_link_local6(&p->daddr))
		return true;
	if (!ep || !(ep->flags & ENDPOINT_ENFORCE_INGRESS))
		return false;
	way_of(fib, p, family);
	rc = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	return rc == BPF_FIB_LKUP_RET_NOT_FWDED || rc == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* `bucket`: the epoch of the address, read before it was looked up. */
static __always_inline int target_host(struct packet *p, const int family, struct ct_half *half, __u64 bucket)
{
	p->dst_identity = IDENTITY_HOST;
	half->target = TARGET_HOST;
	if (!cfg_host_firewall) {
		half->epoch += bucket;
		return 0;
	}
	half->target_slot = p->dst_slot = HOST_SLOT;
	half->epoch += end_epoch(HOST_SLOT, &p->daddr, family);
	return 0;
}

/*
 * Where the host is an endpoint: what leaves by the native device, and what it brings that is for no pod. Groups' packets,
 * and what is to be forwarded, are the stack's.
 */
static __always_inline int aim_natively(struct __sk_buff *skb, struct scratch *s, const int family)
{
	struct packet *p = &s->packet;
	struct ipcache_entry *entry;
	__u64 bucket = end_epoch(0, &p->daddr, family);

	entry = ipcache_find(&p->daddr);
	if (p->hook == HOOK_UPLINK) {
		s->half.epoch += bucket;
		s->half.target = TARGET_ROUTE;
		p->dst_identity = ipcache_identity(entry, family);
		return 0;
	}
	if (p->kind == KIND_ERROR)
		hear_of_path_mtu(skb, p, family);
	if (!addr_is_multicast(&p->daddr, family) &&
	    (is_own(&p->daddr, entry, family) || stack_takes(skb, p, family, &s->fib)))
		target_host(p, family, &s->half, 0);
	return 0;
}

/* Functions of their own, as everywhere: the verifier walks them once. */
__attribute__((noinline)) int aim_natively4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? aim_natively(skb, s, IPV4) : 0;
}

__attribute__((noinline)) int aim_natively6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? aim_natively(skb, s, IPV6) : 0;
}

/* `half->target` stays TARGET_NONE for what the native device brings for others: the stack has it. */
static __always_inline int resolve_target(struct __sk_buff *skb, struct packet *p, const int family, struct scratch *s)
{
	struct local_target *local = bpf_map_lookup_elem(&cp_local_v1, &p->daddr);
	struct ct_half *half = &s->half;
	struct ipcache_entry *entry;
	__u64 bucket;

	if (local && !(cfg_host_firewall && p->hook == HOOK_UPLINK))
		return target_pod(p, family, half, local);
	if (cfg_host_firewall && (p->hook == HOOK_NETDEV || p->hook == HOOK_UPLINK)) {
		family == IPV4 ? aim_natively4(skb) : aim_natively6(skb);
		return 0;
	}
	if (p->hook == HOOK_NETDEV)
		return 0;
	/* A pod that speaks the tunnel's protocol could be anybody. */
	if (p->hook == HOOK_POD && p->protocol == IPPROTO_UDP && p->dport == cfg_tunnel_port)
		return REFUSE(p, FILE_RESOLVE, DROP_ENCAP_PROHIBITED);
	bucket = end_epoch(0, &p->daddr, family);
	entry = ipcache_find(&p->daddr);
	if (is_own(&p->daddr, entry, family))
		return target_host(p, family, half, bucket);
	half->epoch += bucket;
	p->dst_identity = ipcache_identity(entry, family);
	if (p->hook == HOOK_OVERLAY)
		return REFUSE(p, FILE_RESOLVE, DROP_UNROUTABLE);
	/* To a node itself as well, where its row names a tunnel: natively it would refuse the sender, a pod. */
	if (entry && entry->flags & (IPCACHE_TUNNEL | IPCACHE_NODE) && !addr_is_zero(&entry->tunnel)) {
		half->target = TARGET_OVERLAY;
		half->to_tunnel.vni = wire_identity(p->src_identity);
		half->to_tunnel.remote = entry->tunnel;
		return 0;
	}
	if (p->hook == HOOK_HOST)
		return REFUSE(p, FILE_RESOLVE, DROP_UNROUTABLE);
	if (addr_is_multicast(&p->daddr, family))
		return REFUSE(p, FILE_RESOLVE, DROP_UNKNOWN_TARGET);
	return target_route(skb, p, family, s);
}

/* Both ends. Gives 0 or a drop reason. A function of its own, which the verifier walks once. */
static __always_inline int resolve(struct __sk_buff *skb, struct scratch *s, const int family)
{
	int reason = resolve_source(&s->packet, family, &s->half);

	return reason ? reason : resolve_target(skb, &s->packet, family, s);
}

__attribute__((noinline)) int resolve4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? resolve(skb, s, IPV4) : DROP_INVALID;
}

__attribute__((noinline)) int resolve6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand();

	return s ? resolve(skb, s, IPV6) : DROP_INVALID;
}
