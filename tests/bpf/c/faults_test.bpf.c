/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The datapath with something going on in the middle of a packet, as another CPU would do it: cp_fault_v1 says what.
 */
#include "maps.h"

enum fault_kind {
	FAULT_BUMP = 1,	   /* a writer bumps the global epoch after this packet was judged */
	FAULT_RECYCLE = 2, /* the row that is held becomes another flow's */
	FAULT_TEAR = 3,	   /* only the first half of it does, so far */
	FAULT_REVOKE = 4,  /* the flow's row is deleted after this packet was judged */
};

struct fault {
	__u32 kind; /* enum fault_kind; done once */
	__u32 clock; /* added to the clock, in units of 256 jiffies */
	struct ct_row row;
};
MAP(cp_fault_v1, BPF_MAP_TYPE_ARRAY, __u32, struct fault, 1, 0);

static __always_inline void judged(const struct packet *p)
{
	struct fault *fault = bpf_map_lookup_elem(&cp_fault_v1, &zero);
	__u64 *epoch = bpf_map_lookup_elem(&cp_epoch_v1, &zero);

	if (!fault || !epoch)
		return;
	if (fault->kind == FAULT_BUMP) {
		__sync_fetch_and_add(epoch, 1);
	} else if (fault->kind == FAULT_REVOKE) {
		bpf_map_delete_elem(&cp_ct4_v1, &p->key);
		bpf_map_delete_elem(&cp_ct6_v1, &p->key);
		bpf_map_delete_elem(&cp_ctu4_v1, &p->key);
		bpf_map_delete_elem(&cp_ctu6_v1, &p->key);
	} else {
		return;
	}
	fault->kind = 0;
}
#define AT_JUDGED(p) judged(p)

static __always_inline void row_held(struct ct_row *row)
{
	struct fault *fault = bpf_map_lookup_elem(&cp_fault_v1, &zero);

	if (!fault)
		return;
	if (fault->kind == FAULT_RECYCLE)
		*row = fault->row;
	else if (fault->kind == FAULT_TEAR)
		__builtin_memcpy(row, &fault->row, offsetof(struct ct_row, egress));
	else
		return;
	fault->kind = 0;
}
#define AT_ROW_HELD(row) row_held(row)

static __always_inline __u64 shifted_jiffies(void)
{
	struct fault *fault = bpf_map_lookup_elem(&cp_fault_v1, &zero);

	return bpf_jiffies64() + ((__u64)(fault ? fault->clock : 0) << 8);
}
#define JIFFIES() shifted_jiffies()

#include "datapath.bpf.c"
