# SPDX-License-Identifier: Apache-2.0
"""Verbs on the endpoints of the agents that are asked."""
