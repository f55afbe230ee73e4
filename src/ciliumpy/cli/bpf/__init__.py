# SPDX-License-Identifier: Apache-2.0
"""Verbs that read the kernel's pinned maps, without the agent."""
