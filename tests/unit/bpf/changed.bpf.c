/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The sample with one field of a value renamed: as large as before, but another layout. */
#define number renamed
#include "sample.bpf.c"
