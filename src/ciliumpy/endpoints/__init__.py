# SPDX-License-Identifier: Apache-2.0
"""The pods of this node that have an interface: their numbers, addresses, labels, identity and state.

An endpoint's id is its slot in the datapath; with its generation it is never taken for the former owner's. It is
kept in a file of its own, so that a restarted agent gives every pod the numbers it had. Its row is the only way by
which a pod comes into the datapath: nothing here writes a map. Which policy holds for it is decided elsewhere.
"""
