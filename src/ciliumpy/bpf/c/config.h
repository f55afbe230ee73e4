/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is fixed before the load. The defaults are those of tests; the agent sets all of them. Because .rodata is frozen,
 * the verifier takes them for constants and removes what they switch off.
 */
#pragma once

#include "layout.h"

const volatile __u32 cfg_vxlan_ifindex = 0;
const volatile __u32 cfg_host_ifindex = 0;   /* cilium_host */
const volatile __u32 cfg_netdev_ifindex = 0; /* the underlay; route lookups start here */
const volatile __u32 cfg_pod_mtu = 1450;
const volatile __u16 cfg_tunnel_port = 8472;
const volatile __u8 cfg_ipv4 = 1;
const volatile __u8 cfg_ipv6 = 1;
const volatile __u8 cfg_host_firewall = 0; /* policies for the node itself: it is an endpoint, HOST_SLOT */

const volatile struct addr cfg_router_ip4 = {}; /* the gateway that pods see */
const volatile struct addr cfg_router_ip6 = {};
const volatile struct addr cfg_node_ip4 = {};
const volatile struct addr cfg_node_ip6 = {};

/* Units of 256 jiffies: with HZ 250 one is 1.024 s. Defaults are for HZ 250. */
const volatile __u32 cfg_ct_timeout_syn = 59;	/* 60 s */
const volatile __u32 cfg_ct_timeout_tcp = 7813; /* 8000 s */
const volatile __u32 cfg_ct_timeout_any = 59;	/* 60 s */
const volatile __u32 cfg_ct_timeout_fin = 10;	/* 10 s */
const volatile __u32 cfg_fragment_timeout = 30; /* 30 s, as long as a receiver waits */
const volatile __u32 cfg_report_interval = 5;	/* 5 s between a direction's aggregates */

const volatile __u32 cfg_event_rate = 0; /* drop events per second and CPU; 0: no limit */
const volatile __u32 cfg_event_burst = 64;
const volatile __u32 cfg_counters = 65536; /* max_entries of cp_counter_v3 */

/* User space reads the record's layout from the type information, which knows only what something names. */
const struct event *const volatile event_layout = 0;
