# SPDX-License-Identifier: Apache-2.0
"""eBPF networking, identity-based policy and flow observability for Linux; see docs/architecture.md."""

__version__ = "0.1.0"
