# SPDX-License-Identifier: Apache-2.0
"""What was meant by a field that is wrong where it stands: one of the other direction, of another kind of policy."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_KUBERNETES = "unknown field: Kubernetes' NetworkPolicy has it; here it is"
SPEC = {
    "selector": "unknown field, did you mean endpointSelector?",
    "rules": "unknown field: write ingress, egress, ingressDeny or egressDeny",
    "podSelector": f"{_OF_KUBERNETES} endpointSelector",
    "policyTypes": f"{_OF_KUBERNETES} said by the lists: a direction with a rule is closed",
    "subject": "unknown field: ClusterNetworkPolicy has it; here it is endpointSelector",
    "tier": "unknown field: ClusterNetworkPolicy has it",
    "priority": "unknown field: ClusterNetworkPolicy has it; here deny rules go before all others",
    "toPorts": "unknown field: it stands in a rule, as ingress: [{toPorts: ...}]",
    "namespaceSelector": "unknown field: a policy is about pods of its own namespace, or of all if it is clusterwide",
}
_PEERS = ("Endpoints", "Entities", "CIDR", "CIDRSet", "Nodes", "Groups", "Requires")
_RULE = {
    "from": f"{_OF_KUBERNETES} {{own}}Endpoints, {{own}}Entities or {{own}}CIDRSet",
    "to": f"{_OF_KUBERNETES} {{own}}Endpoints, {{own}}Entities or {{own}}CIDRSet",
    "podSelector": f"{_OF_KUBERNETES} {{own}}Endpoints",
    "namespaceSelector": f"{_OF_KUBERNETES} {{own}}Endpoints with a label io.kubernetes.pod.namespace",
    "ipBlock": f"{_OF_KUBERNETES} {{own}}CIDRSet",
    "matchLabels": "unknown field: a selector stands in {own}Endpoints",
    "fromLabels": "unknown field, did you mean {own}Endpoints?",
    "toLabels": "unknown field, did you mean {own}Endpoints?",
    "fromPorts": "unknown field: only the ports of who is called can be chosen, by toPorts",
    "action": "unknown field: ClusterNetworkPolicy has it; here ingressDeny and egressDeny hold what is denied",
    "port": "unknown field: write toPorts: [{{ports: [{{port: ...}}]}}]",
    "ports": "unknown field: write toPorts: [{{ports: [{{port: ...}}]}}]",
    "protocol": "unknown field: write toPorts: [{{ports: [{{port: ..., protocol: ...}}]}}]",
    "rules": "unknown field: it stands in an entry of toPorts",
    "http": "unknown field: write toPorts: [{{ports: ..., rules: {{http: ...}}}}]",
    "icmp": "unknown field, did you mean icmps?",
}


@lru_cache
def rule(prefix: str, *, deny: bool) -> Mapping[str, str]:
    """For an entry of a list of rules whose fields for peers begin with `prefix`: from, to."""
    other, side = ("to", "egress") if prefix == "from" else ("from", "ingress")
    hints = {name: text.format(own=prefix) for name, text in _RULE.items()}
    hints |= {other + kind: f"unknown field: it is for {side}; here it is {prefix}{kind}" for kind in _PEERS}
    if deny:
        hints["toFQDNs"] = (
            "unknown field: it cannot stand in a deny rule: what a name means is learned where it is allowed"
        )
        hints["authentication"] = "unknown field: it cannot stand in a deny rule"
    if prefix == "from":
        only = "unknown field: it is for egress only, who calls cannot be chosen by"
        hints |= {"toFQDNs": f"{only} DNS name", "toServices": f"{only} service"}
    return MappingProxyType(hints)
