# SPDX-License-Identifier: Apache-2.0
"""Verbs on the agent's tables as they are."""
