# SPDX-License-Identifier: Apache-2.0
"""The demo: a shop and a guest on two nodes, before and after a policy, seen with the commands that users have."""
