# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin: what a container runtime executes to plug a pod in.

Idea: the plugin checks what the runtime says, opens the pod's namespace and hands both to the agent over a socket; the
agent does everything else. Invariants: stdout carries the specification's JSON and nothing else; whatever comes in, the
answer is one of the specification's; nothing is left behind by an ADD that failed; a DEL is never lost. Not here:
netlink, addresses, policy, and any import beyond the standard library (it starts for every pod).
"""
