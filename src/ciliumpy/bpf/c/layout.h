/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one home of every map layout and of the event record.
 *
 * User space reads these structs from the object's BTF (bpf/btf.py) and never keeps a copy. A map's name ends in the
 * version of its layout: a struct that changes gets a new name. Names have at most 15 characters, because the kernel
 * cuts them there. Fields are in host byte order unless the name or a comment says otherwise; addresses are in network
 * order, 16 bytes, IPv4 as ::ffff:a.b.c.d.
 */
#pragma once

#include <linux/types.h>

#ifndef VECTOR_BITS
#define VECTOR_BITS 1024 /* selectors a node can have in use; a second object is built with 4,096 */
#endif
#define VECTOR_WORDS (VECTOR_BITS / 64)
#define CLASS_LEVELS 16
#define RANGE_ENTRIES 64
#define EVENT_RINGS 16
#define MAX_ENDPOINTS 4096 /* slots; slot 0 is never an endpoint. An endpoint's id is its slot. */
#define HOST_SLOT (MAX_ENDPOINTS - 1) /* this node itself, where policies for it are in force: no device, no address */

struct addr {
	__u8 b[16];
} __attribute__((aligned(4))); /* so that it is copied and compared by words */

/* ---- endpoints ------------------------------------------------------------------------------------------------- */

enum endpoint_flags {
	ENDPOINT_READY = 1 << 0,	   /* complete: packets from and to it may be judged */
	ENDPOINT_ENFORCE_INGRESS = 1 << 1, /* some rule selects it: its set is asked */
	ENDPOINT_ENFORCE_EGRESS = 1 << 2,
	ENDPOINT_SAME_NETNS = 1 << 3, /* lives in the node's own namespace: redirect, not redirect_peer */
	ENDPOINT_PROXY_ARP = 1 << 4,  /* another plugin made its device: whoever it asks for, we are the way */
	ENDPOINT_AUDIT = 1 << 5,      /* what its policy denies passes, and is told of */
};

/* cp_endpoint_v1: ARRAY, slot -> endpoint. Generation 0 is an empty slot. */
struct endpoint {
	__u32 ifindex;	  /* host side of the veth */
	__u32 generation; /* grows by one each time the slot is given out */
	__u32 identity;
	__u32 policy_set; /* key of cp_set_v2; 0 = none known: enforced directions drop */
	__u32 flags;	  /* enum endpoint_flags */
	__u8 mac[6];	  /* the pod's */
	__u8 host_mac[6]; /* the host side's, what the pod sees as its gateway */
	struct addr ip4;  /* ::ffff:a.b.c.d, or all zero */
	struct addr ip6;  /* or all zero */
	__u32 peer_ifindex;
	__u32 pad;
};

/* cp_podnet_v1: ARRAY of u32, slot -> 1 + the node's number for the pod's namespace (netlink's nsid); 0: it has none. */

/* cp_local_v1: HASH, address of a local pod -> its slot. */
struct local_target {
	__u32 slot;
	__u32 generation;
};

/* cp_link_v1: HASH, ifindex of a pod's host side -> its slot (one program instance serves every pod). */

/* cp_epoch_v1: ARRAY of u64; only ever grows, 0 is never valid. */
enum epoch_index {
	EPOCH_GLOBAL = 0, /* routes, devices, vectors of living identities, nodes, wide prefixes of ipcache */
	EPOCH_COUNT = 8,
};
/* cp_epepoch_v1: ARRAY of u64, slot -> epoch of that endpoint (its policy set, its identity, its being there). */

/*
 * cp_ipepoch_v1: ARRAY of u64, bucket -> epoch of what ipcache says of the addresses in it. A bucket is a hash of an
 * address's /24 or /64: the top 12 bits of the 64-bit product of EPOCH_MIX and the network's number in host order.
 */
#define EPOCH_BUCKETS 4096
#define EPOCH_MIX 0x9e3779b97f4a7c15ULL

/* ---- ipcache --------------------------------------------------------------------------------------------------- */

enum ipcache_flags {
	IPCACHE_TUNNEL = 1 << 0, /* behind the tunnel endpoint */
	IPCACHE_HOST = 1 << 1,	 /* this node's own address */
	IPCACHE_NODE = 1 << 2,	 /* another node's address; pods reach it through the tunnel, if that is set */
};

/* cp_iphost_v1: HASH, struct addr -> ipcache_entry: addresses (/32, /128). Asked first. */
/* cp_ipcidr_v1: LPM_TRIE, NO_PREALLOC: prefixes. prefixlen counts over the 16 bytes: 10.0.0.0/8 is 96 + 8. */
struct ipcache_prefix {
	__u32 prefixlen;
	struct addr addr;
};

struct ipcache_entry {
	__u32 identity;
	__u32 flags;	    /* enum ipcache_flags */
	struct addr tunnel; /* node to send to, or all zero */
};

/* ---- policy: selector vectors (see docs/concepts/policy-sets.md) -------------------------------------------------- */

enum direction {
	INGRESS = 0,
	EGRESS = 1,
};

enum level_verdict {
	LEVEL_DENY = 1,
	LEVEL_ALLOW = 2,
	LEVEL_REDIRECT = 3, /* allow, and hand to proxy_port */
	LEVEL_PASS = 4,	    /* go on with level proxy_port, which stands behind this one: the rest of the tier is not asked */
};

#define LEVEL_EVERYBODY 1 /* level.flags: meets every peer, whatever its vector */

/* cp_vector_v1: HASH, NO_PREALLOC, identity -> selectors it meets. A node of 4,096 selectors has cp_vector4k_v1 instead. */
struct vector {
	__u64 words[VECTOR_WORDS];
};

/* cp_set_v2: HASH, set id -> its default classes. A missing set is a drop. */
struct policy_set {
	__u32 default_class[2]; /* by direction; class 0 = nobody */
	__u32 has_exact[2];	/* number of cp_port_v1 rows; 0 lets the lookup be skipped */
	__u32 has_ranges[2];	/* bit per protocol family: TCP 1, UDP 2, SCTP 4, ICMP 8, ICMPv6 16 */
	__u16 denied_stat[2];	/* where that is counted of which no level decides: struct level.stat */
};

/* cp_port_v1: HASH, NO_PREALLOC, (set, direction, protocol, port) -> class. ICMP: port is the message type. */
struct port_key {
	__u32 set;
	__u8 direction;
	__u8 protocol;
	__u16 port;
};

/* cp_range_v1: HASH, NO_PREALLOC, port_key with port 0 -> disjoint ranges, ascending. Asked when cp_port_v1 misses. */
struct port_range {
	__u16 first;
	__u16 last;
	__u32 class_id;
};
struct port_ranges {
	__u32 count;
	__u32 pad;
	struct port_range range[RANGE_ENTRIES];
};

/*
 * cp_class_v2: HASH, NO_PREALLOC, class id -> levels, first that meets the peer decides; none is a denial (133). A node of
 * 4,096 selectors has cp_class4k_v2 instead.
 */
struct level {
	__u8 verdict; /* enum level_verdict; 0 ends the list */
	__u8 flags;
	__u16 proxy_port;
	__u16 stat; /* where what it decides is counted: index into cp_rulestat_v2; 0: nowhere */
	__u16 pad;
	__u64 mask[VECTOR_WORDS];
};
struct port_class {
	struct level level[CLASS_LEVELS];
};

/* Which rule decided: in class `class_id`, level `level`, the first common bit. class_id 0: no rule (default). */
struct rule_ref {
	__u32 class_id;
	__u16 bit; /* 0xffff: the level meets everybody. Of RULE_DEFAULT_DENIED: where it is counted, as struct level.stat */
	__u8 level;
	__u8 verdict; /* enum rule_verdict */
};

enum rule_verdict {
	RULE_NOT_ASKED = 0, /* no such leg on this node */
	RULE_NOT_ENFORCED = 1,
	RULE_ALLOWED = 2,
	RULE_DENIED = 3,	 /* by a deny rule: 181 */
	RULE_DEFAULT_DENIED = 4, /* no rule: 133 */
	RULE_REDIRECTED = 5,
	RULE_REPLY = 6,	    /* allowed as the reply of an allowed flow */
	RULE_NO_POLICY = 7, /* enforced, but its set or class is not there: dropped as 133, for the host too */
	RULE_AUDITED = 0x80, /* flag on what denies: let through, because the endpoint is in audit mode */
};

/* ---- conntrack ------------------------------------------------------------------------------------------------- */

/*
 * cp_ct4_v1, cp_ct6_v1: LRU_HASH. One row a flow, found from both directions: the two (address, port) pairs stand in
 * canonical order, smaller first as unsigned words in memory order of this machine; an echo's requester is always first
 * and sport is its id, dport 0. All in network order.
 *
 * cp_ctu4_v1, cp_ctu6_v1: the same for flows that nobody has answered yet. They are smaller, so that a flood of questions
 * pushes out other questions and no conversation. A lookup asks the main one first.
 */
enum ct_kind {
	CT_PORTS = 0, /* TCP, UDP, SCTP */
	CT_ECHO = 1,
};

struct ct4_key {
	__u32 addr[2];
	__u16 port[2];
	__u8 protocol;
	__u8 kind;  /* enum ct_kind */
	__u16 zone; /* 0; a tuple emitted again by a proxy gets another */
};
_Static_assert(sizeof(struct ct4_key) == 16, "v4 key");

struct ct6_key {
	struct addr addr[2];
	__u16 port[2];
	__u8 protocol;
	__u8 kind;
	__u16 zone;
};
_Static_assert(sizeof(struct ct6_key) == 40, "v6 key");

enum ct_verdict {
	CT_NOT_JUDGED = 0,
	CT_ALLOWED = 1, /* a denied packet never makes a row */
};

enum ct_target {
	TARGET_NONE = 0,
	TARGET_LOCAL = 1,   /* a pod of this node: redirect_peer, or redirect with HALF_SAME_NETNS */
	TARGET_OVERLAY = 2, /* tunnel to another node */
	TARGET_HOST = 3,    /* up this node's stack */
	TARGET_ROUTE = 4,   /* what the kernel's routes say: redirect_neigh, MACs are never cached */
	TARGET_PROXY = 5,   /* reserved */
};

enum ct_half_flags {
	HALF_SAME_NETNS = 1 << 0,
};

/* One direction's decision. */
struct ct_half {
	__u64 epoch;	   /* global + source's + target's before the lookups (maps.h: epoch_sum); 0: stale */
	__u8 verdict;	   /* enum ct_verdict */
	__u8 target;	   /* enum ct_target */
	__u8 source;	   /* enum hook: where this direction's packets come in; 0: not learned yet */
	__u8 flags;	   /* enum ct_half_flags */
	__u16 source_slot; /* local endpoint, or 0 */
	__u16 target_slot;
	union {
		struct {
			__u32 ifindex; /* HOOK_POD */
			__u32 generation;
		} from_pod;
		struct {
			__u32 vni; /* HOOK_OVERLAY */
			struct addr outer;
		} from_tunnel;
		struct {
			__u32 ifindex; /* HOOK_HOST: the device that the stack had it from; 0: it is its own */
		} from_stack;
	};
	union {
		struct {
			__u32 ifindex; /* TARGET_LOCAL */
			__u32 generation;
			__u8 dmac[6]; /* as they stand in the frame */
			__u8 smac[6];
		} to_pod;
		struct {
			__u32 vni; /* TARGET_OVERLAY */
			struct addr remote;
		} to_tunnel;
		struct {
			__u32 ifindex; /* TARGET_ROUTE */
			struct addr nexthop;
		} to_route;
	};
};
_Static_assert(sizeof(struct ct_half) == 56, "half a row");

/* Second half of a translated row (it has one direction only): what the packet becomes; the twin is found under it. */
struct ct_rewrite {
	struct addr saddr;
	struct addr daddr;
	__u16 sport; /* network order */
	__u16 dport;
	__u16 twin_zone;
	__u16 flags;
	__u64 reserved[2];
};
_Static_assert(sizeof(struct ct_rewrite) == sizeof(struct ct_half), "a union of the two");

/* All but the marked fields change by map update only, never through a pointer. */
struct ct_row {
	__u64 tag; /* hash of the key xor nonce */
	union {
		struct ct_half half[2]; /* original direction, reply */
		struct {
			struct ct_half only;
			struct ct_rewrite rewrite;
		};
	};
	struct rule_ref egress; /* at the flow's originator, if local */
	struct rule_ref ingress;
	__u32 src_identity; /* of the original direction */
	__u32 dst_identity;
	__u32 service_id;
	__u16 proxy_port;
	__u8 origin; /* key order of the original direction: 0 as the key stands, 1 swapped */
	__u8 protocol;
	__u32 counter; /* index into cp_counter_v3 */
	__u32 flow;    /* whose counter it is: struct flow_counter.flow */
	__u32 created; /* jiffies64 >> 8, as all times here */
	/* written through the pointer; a byte or word per direction, original first */
	__u32 expires;	   /* past it the row is no row (signed difference) */
	__u32 reported[2]; /* time of the last event */
	__u8 seen[2];	   /* TCP flags seen: FIN 1, SYN 2, RST 4, ACK 16 (not of a RST) */
	__u8 pad[2];
	__u16 stat[2]; /* by direction, where its rules count: struct level.stat; egress and ingress say which rules */
	__u64 nonce; /* new for every write; tag ^ nonce must be the hash of the key it was found under */
};
_Static_assert(sizeof(struct ct_row) <= 192, "three cache lines");

/*
 * cp_counter_v3: PERCPU_ARRAY. A slot belongs to the last flow that wrote it; others' sums start from nothing. What the flow
 * before it had in its original direction is added to its rules' counts then, and counts for them until then.
 */
struct flow_counter {
	__u64 packets[2]; /* original direction, reply */
	__u32 flow;	  /* amid the counts: whichever way, one cache line is more often enough */
	__u16 stat[2];	  /* by direction, of the flow's rules: struct level.stat */
	__u64 bytes[2];	  /* from the IP header on */
};

/*
 * cp_rulestat_v2: PERCPU_ARRAY, struct level.stat -> packets that the rule decided, but for those of flows that stand in
 * cp_counter_v3; without them it may be below zero. Never set back: who has it next begins with what cp_rulebase_v2 says.
 */
struct rule_stat {
	__u64 packets;
	__u64 bytes;
};
/* cp_rulebase_v2: ARRAY of struct rule_stat, struct level.stat -> its sum when the rule got it. Written by the agent alone. */

/* cp_pathmtu_v1: ARRAY(1) of u32: the least MTU that a way for pods' packets is known to have; 0: none has less than theirs. */

/* cp_began_v1: SK_STORAGE of u32, a pod's socket -> 1: it began its connection. Goes with the socket. */

/*
 * cp_flowseq_v2: ARRAY(2) of u64, enum flow_sequence -> the last nonce of a row's write, and the last flow's number. Two, so that flows have
 * counters one after the other, however often their rows are written.
 */
enum flow_sequence {
	NUMBER_OF_WRITES = 0,
	NUMBER_OF_FLOWS = 1,
};

/* ---- fragments --------------------------------------------------------------------------------------------------- */

/* cp_frag4_v1, cp_frag6_v1: LRU_HASH, a datagram in fragments -> what its first one said. All in network order. */
struct frag4_key {
	__u32 saddr;
	__u32 daddr;
	__u16 id;
	__u8 protocol;
	__u8 pad;
};
_Static_assert(sizeof(struct frag4_key) == 12, "v4 fragments");

struct frag6_key {
	struct addr saddr;
	struct addr daddr;
	__u32 id;
	__u32 pad;
};
_Static_assert(sizeof(struct frag6_key) == 40, "v6 fragments");

struct fragment {
	__u16 sport; /* host order; ICMP: type */
	__u16 dport; /* host order; ICMP: code */
	__u16 echo;  /* an echo's id, network order */
	__u16 end;   /* bytes of the datagram that the first fragment has: later ones begin there or after */
	__u32 expires;
	__u8 protocol;
	__u8 tcp_flags;
	__u16 pad;
	__u64 tag; /* hash of the key and all of the above: rows are recycled under readers */
};

/* ---- events ---------------------------------------------------------------------------------------------------- */

enum event_type {
	EVENT_FLOW = 1,	     /* first packet of a flow, allowed */
	EVENT_DROP = 2,	     /* one dropped packet */
	EVENT_AGGREGATE = 3, /* new TCP flags in a direction, or 5 s since the last one */
	EVENT_CLOSE = 4,     /* the packet that closed the flow: second FIN, or a RST */
};

enum event_flags {
	EVENT_IPV6 = 1 << 0,
	EVENT_REPLY = 1 << 1,	      /* the packet goes against the flow's original direction */
	EVENT_REPLY_UNKNOWN = 1 << 2, /* no row, so nobody knows */
	EVENT_TO_LOCAL = 1 << 3,      /* delivered to a local pod */
	EVENT_TO_OVERLAY = 1 << 4,
	EVENT_TO_HOST = 1 << 5,
	EVENT_TO_NETWORK = 1 << 6,
	EVENT_TO_PROXY = 1 << 7,
};

enum hook {
	HOOK_POD = 1,
	HOOK_OVERLAY = 2,
	HOOK_HOST = 3,
	HOOK_NETDEV = 4,
	HOOK_UPLINK = 5,
};

/*
 * 120 bytes, so that with the ring's 8-byte header a record is 128. cp_events_v1: ARRAY_OF_MAPS of ring buffers, CPU ->
 * ring (CPU modulo EVENT_RINGS). Ports are in host order; for ICMP sport is the type, dport the code (echo: the id is
 * not kept). Identities, endpoints and addresses are the packet's own (a reply's source is the flow's destination); the
 * two legs are the flow's. In an aggregate or close bytes and packets are totals since the flow began.
 */
struct event {
	__u64 ktime; /* ns, CLOCK_MONOTONIC */
	__u32 seq;   /* per CPU, counts failed reservations too */
	__u16 cpu;
	__u8 type;   /* enum event_type */
	__u8 reason; /* Cilium's drop reason; 0 if not a drop */
	struct addr saddr;
	struct addr daddr;
	__u16 sport;
	__u16 dport;
	__u8 protocol;
	__u8 flags; /* enum event_flags */
	__u8 tcp_flags;
	__u8 hook; /* enum hook */
	__u32 src_identity;
	__u32 dst_identity;
	__u16 src_endpoint; /* local endpoint id, or 0 */
	__u16 dst_endpoint;
	__u32 service_id;
	struct rule_ref egress;	 /* judged at the sender, if it is local */
	struct rule_ref ingress; /* judged at the receiver, if it is local */
	__u32 ifindex;		 /* where the packet came in */
	__u32 length;		 /* of this packet, from the IP header on */
	union {
		struct {
			__u64 bytes[2]; /* original direction, reply */
		};
		struct {
			__u16 line;
			__u8 file; /* enum source_file */
			__s8 ext_error;
		};
	};
	__u32 packets[2]; /* at most: the flow's counter goes on beyond it */
};
_Static_assert(sizeof(struct event) == 120, "an event and the ring's header are 128 bytes");

/* cp_evstate_v1: PERCPU_ARRAY(1): what a CPU has told, lost and held back. */
struct event_state {
	__u32 seq; /* next sequence number of this CPU (atomic: softirq nests in process context) */
	__u32 pad;
	__u64 lost;	/* failed reservations */
	__u64 held_back; /* drops that the token bucket did not report */
	__u64 bucket_time; /* ns */
	__u64 bucket_credit; /* ns: a drop costs 1e9 / cfg_event_rate of it */
};

/*
 * cp_metrics_v1: PERCPU_ARRAY(512), index = reason * 2 + direction; reason 0 is forwarded. Direction EGRESS: what a local
 * pod sent and its own side forwarded or refused, and what the host sends to other nodes; INGRESS all else.
 */
struct metric {
	__u64 packets;
	__u64 bytes;
};

enum source_file {
	FILE_POD = 1,
	FILE_OVERLAY = 2,
	FILE_HOST = 3,
	FILE_NETDEV = 4,
	FILE_PARSE = 5,
	FILE_CONNTRACK = 6,
	FILE_POLICY = 7,
	FILE_DELIVER = 8,
	FILE_ICMP = 9,
	FILE_RESOLVE = 10,
	FILE_SLOW = 11,
	FILE_FRAGMENT = 12,
	FILE_MTU = 13,
};
