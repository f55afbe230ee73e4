/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs. Each takes a packet at its hook, parses it, tries to replay the flow's decision and else decides anew
 * (slow.h). On our own devices a verdict is final: none gives TC_ACT_UNSPEC, which would hand the packet to whoever is
 * next on the hook. A native device is not ours alone: what is for the stack there goes on to them.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "arp_nd.h"
#include "config.h"
#include "maps.h"
#include "parse.h"
#include "replay.h"
#include "slow.h"

/* Only these are judged again whatever the row says, or have none. */
static __always_inline bool replayable(const struct packet *p)
{
	return KIND_HAS_ROW(p->kind) && !p->fragment && !bare_syn(p);
}

static __always_inline int forward(struct __sk_buff *skb, struct packet *p, const int family)
{
	int verdict;

	if (replayable(p)) {
		verdict = family == IPV4 ? replay4(skb) : replay6(skb);
		if (verdict != NOT_REPLAYED)
			return verdict;
	}
	return family == IPV4 ? slow_path4(skb) : slow_path6(skb);
}

static __always_inline struct packet *start(struct __sk_buff *skb, const __u32 hook)
{
	struct scratch *scratch = scratch_at_hand();
	struct packet *p;

	if (!scratch)
		return NULL;
	p = &scratch->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->hook = hook;
	p->ifindex = skb->ifindex;
	p->length = skb->len - ETH_HLEN;
	return p;
}

static __always_inline int pod_packet(struct __sk_buff *skb, struct packet *p, const int family)
{
	int reason = parse(skb, family);

	if (reason)
		return drop(p, reason);
	if (family == IPV6 && is_neighbour_talk(p))
		return answer_nd(skb, p);
	return forward(skb, p, family);
}

SEC("tc")
int pod(struct __sk_buff *skb)
{
	struct packet *p = start(skb, HOOK_POD);

	if (!p)
		return TC_ACT_SHOT;
	if (skb->vlan_present)
		return drop(p, REFUSE(p, FILE_POD, DROP_VLAN));
	if (skb->protocol == bpf_htons(ETH_P_IP) && cfg_ipv4)
		return pod_packet(skb, p, IPV4);
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && cfg_ipv6)
		return pod_packet(skb, p, IPV6);
	if (skb->protocol == bpf_htons(ETH_P_ARP) && cfg_ipv4)
		return answer_arp(skb, p);
	return drop(p, REFUSE(p, FILE_POD, DROP_UNSUPPORTED_L2));
}

static __always_inline int overlay_packet(struct __sk_buff *skb, struct packet *p, const int family)
{
	int reason = parse(skb, family);

	if (!reason)
		reason = READ_TUNNEL_KEY(skb, p);
	if (reason)
		return drop(p, reason);
	if (family == IPV6 && is_neighbour_talk(p))
		return drop_silently(p, DROP_FORBIDDEN_ICMP6);
	return forward(skb, p, family);
}

SEC("tc")
int overlay(struct __sk_buff *skb)
{
	struct packet *p = start(skb, HOOK_OVERLAY);

	if (!p)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_IP) && cfg_ipv4 && !skb->vlan_present)
		return overlay_packet(skb, p, IPV4);
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && cfg_ipv6 && !skb->vlan_present)
		return overlay_packet(skb, p, IPV6);
	return drop_silently(p, DROP_UNSUPPORTED_L2);
}

/* The stack's packets to pods. What it says to neighbours and groups on a link without any ends here. */
static __always_inline int host_packet(struct __sk_buff *skb, struct packet *p, const int family)
{
	int reason = parse(skb, family);

	if (family == IPV6 && is_neighbour_talk(p))
		return drop_silently(p, DROP_FORBIDDEN_ICMP6);
	if (addr_is_multicast(&p->daddr, family))
		return drop_silently(p, DROP_UNKNOWN_TARGET);
	return reason ? drop(p, reason) : forward(skb, p, family);
}

SEC("tc")
int host(struct __sk_buff *skb)
{
	struct packet *p = start(skb, HOOK_HOST);

	if (!p)
		return TC_ACT_SHOT;
	p->forwarded = skb->ingress_ifindex;
	if (skb->protocol == bpf_htons(ETH_P_IP) && cfg_ipv4)
		return host_packet(skb, p, IPV4);
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && cfg_ipv6)
		return host_packet(skb, p, IPV6);
	return drop_silently(p, DROP_UNSUPPORTED_L2);
}

/* From whomever: the tunnel's device looks, and then `overlay`. */
static __always_inline bool is_for_the_tunnel(const struct packet *p)
{
	return p->protocol == IPPROTO_UDP && p->dport == cfg_tunnel_port && !p->fragment &&
	       (addr_is(&p->daddr, &cfg_node_ip4) || addr_is(&p->daddr, &cfg_node_ip6));
}

/*
 * The native network. Tunnel packets go up at once; of the rest the sender is looked at, whoever it is for: what the stack
 * takes up here it may forward to a pod.
 */
static __always_inline int netdev_packet(struct __sk_buff *skb, struct packet *p, const int family)
{
	int reason = parse(skb, family);

	if (family == IPV6 && is_neighbour_talk(p))
		return TC_ACT_OK;
	if (cfg_host_firewall ? is_the_tunnels(p, &p->daddr, &p->saddr) : is_for_the_tunnel(p))
		return TC_ACT_OK;
	if (cfg_host_firewall && family == IPV6 && is_link_dhcp6(p))
		return TC_ACT_OK;
	/* Fragments and protocols without ports are the stack's business, unless they are for a pod. */
	if (reason) {
		if (bpf_map_lookup_elem(&cp_local_v1, &p->daddr))
			return drop(p, reason);
		p->kind = KIND_LONE;
		p->odd = reason;
	}
	return forward(skb, p, family);
}

/* Of a family that pods do not have: the tunnel may run over it, and all is the stack's, unless the host is judged. */
static __always_inline int underlay_packet(struct __sk_buff *skb, struct packet *p, const int family)
{
	if (!parse(skb, family) && p->kind == KIND_ERROR)
		hear_of_path_mtu(skb, p, family);
	return TC_ACT_OK;
}

static __always_inline int netdev_frame(struct __sk_buff *skb)
{
	struct packet *p = start(skb, HOOK_NETDEV);

	if (!p)
		return TC_ACT_SHOT;
	if (skb->vlan_present && skb->vlan_tci & VLAN_NUMBER) /* another network; number 0 is this one */
		return TC_ACT_OK;
	if (skb->pkt_type == PACKET_OTHERHOST) /* flooded by a switch: the stack drops it, and nobody has sent it to us */
		return TC_ACT_OK;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return cfg_ipv4 || cfg_host_firewall ? netdev_packet(skb, p, IPV4) : underlay_packet(skb, p, IPV4);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return cfg_ipv6 || cfg_host_firewall ? netdev_packet(skb, p, IPV6) : underlay_packet(skb, p, IPV6);
	return TC_ACT_OK;
}

SEC("tc")
int netdev(struct __sk_buff *skb)
{
	int verdict = netdev_frame(skb);

	return verdict == TC_ACT_OK ? TC_ACT_UNSPEC : verdict;
}

/*
 * What leaves by the native device. The host's own packets are judged; what its stack sends on with the host's address is
 * followed, for its answers come to that address; all else has been judged where it came from.
 */
static __always_inline int uplink_packet(struct __sk_buff *skb, struct packet *p, const int family)
{
	int reason = parse(skb, family);

	if (p->forwarded && (p->kind == KIND_ERROR || !is_own(&p->saddr, ipcache_find(&p->saddr), family)))
		return TC_ACT_OK;
	if (is_the_tunnels(p, &p->saddr, &p->daddr) || addr_is_multicast(&p->daddr, family))
		return TC_ACT_OK;
	if (family == IPV6 && (is_neighbour_talk(p) || is_link_dhcp6(p)))
		return TC_ACT_OK;
	if (reason) {
		p->kind = KIND_LONE;
		p->odd = reason;
	}
	return forward(skb, p, family);
}

static __always_inline int uplink_frame(struct __sk_buff *skb)
{
	struct packet *p = start(skb, HOOK_UPLINK);

	if (!p)
		return TC_ACT_SHOT;
	if (skb->vlan_present && skb->vlan_tci & VLAN_NUMBER)
		return TC_ACT_OK;
	p->forwarded = skb->ingress_ifindex;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return uplink_packet(skb, p, IPV4);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return uplink_packet(skb, p, IPV6);
	return TC_ACT_OK;
}

/* Attached only where the host is an endpoint. */
SEC("tc")
int uplink(struct __sk_buff *skb)
{
	int verdict = cfg_host_firewall ? uplink_frame(skb) : TC_ACT_OK;

	return verdict == TC_ACT_OK ? TC_ACT_UNSPEC : verdict;
}

/* The kernel's clock for user space, by a test run: cb[0,1] jiffies64 low and high, cb[2,3] ktime; gives conntrack's now. */
SEC("tc")
int clock(struct __sk_buff *skb)
{
	__u64 jiffies = bpf_jiffies64(), ktime = bpf_ktime_get_ns();

	skb->cb[0] = jiffies;
	skb->cb[1] = jiffies >> 32;
	skb->cb[2] = ktime;
	skb->cb[3] = ktime >> 32;
	return jiffies >> 8;
}

char _license[] SEC("license") = "Dual BSD/GPL";
