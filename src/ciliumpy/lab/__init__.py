# SPDX-License-Identifier: Apache-2.0
"""A cluster on one machine: nodes and pods are namespaces with real processes and real agents.

Idea: `lab up` makes the wire, the world and the nodes, and starts one agent a node and one controller a lab. The
controller plays API server, scheduler, kubelet and endpoint controller on the directory store, and plugs pods in by
executing the CNI plugin, so the lab has no path of its own. Invariants: everything a lab makes is found again by its
path (run directory, netns mounts, bpffs, cgroup), so that `lab down` can remove it whatever was killed; the controller
never starts, stops or asks an agent; a pod cannot see run directory, store, bpffs or cgroups. Not here: images,
services, volumes, DNS.
"""
