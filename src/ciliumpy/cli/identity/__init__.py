# SPDX-License-Identifier: Apache-2.0
"""Verbs on security identities."""
