# SPDX-License-Identifier: Apache-2.0
"""What users call the kinds of policies, for short."""

from __future__ import annotations

SHORT = {
    "CiliumNetworkPolicy": "cnp",
    "CiliumClusterwideNetworkPolicy": "ccnp",
    "NetworkPolicy": "netpol",
    "ClusterNetworkPolicy": "cluster-netpol",  # in Kubernetes too it is cnp for short, which was ours before
    "CiliumCIDRGroup": "ccg",
}
