# SPDX-License-Identifier: Apache-2.0
"""Verbs on addresses: which identity each has, as the agents know it. `bpf ipcache` is what the kernel knows."""
