# SPDX-License-Identifier: Apache-2.0
"""Own node for the others, the others for it: CiliumNode objects, and which identity sits behind an address.

Every address has exactly one row: where two sources name one, the more trusted wins (own node, own endpoints, other
nodes, their endpoints, their pod CIDRs, the world). Routes and devices are the datapath's business.
"""
