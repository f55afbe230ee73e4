# SPDX-License-Identifier: Apache-2.0
"""The agent: one process a node, composed of the parts below it.

`agent.py` lists every part in the order of its start; nothing here decides anything about packets or policy. Stopping
the agent, by a signal or by force, leaves the datapath as it is: programs, maps and links are pinned, and the next
agent takes them over. There is one agent a run directory, held by a lock.
"""
