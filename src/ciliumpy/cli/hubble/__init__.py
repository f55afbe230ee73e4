# SPDX-License-Identifier: Apache-2.0
"""Verbs of hubble that are not flows: how the servers are and what they know."""
