# SPDX-License-Identifier: Apache-2.0
"""Pod CIDRs of this node, and addresses out of them.

A node takes one prefix a family out of the cluster's pool, through the store, and keeps it for its life. Addresses are
given out in turn, so that a freed one rests as long as possible. The first and (IPv4) the last address of a prefix and
the router's are never given out. What is in use is read from the endpoints, never kept twice. No routes are set here.
"""
