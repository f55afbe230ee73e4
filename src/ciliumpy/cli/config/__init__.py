# SPDX-License-Identifier: Apache-2.0
"""Verbs on the agents' configuration."""
