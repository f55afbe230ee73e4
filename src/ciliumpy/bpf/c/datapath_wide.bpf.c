/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The same programs with four times the selectors: swapped in when a node needs them (datapath/width.py). */
#define VECTOR_BITS 4096

#include "datapath.bpf.c"
