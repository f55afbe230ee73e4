# SPDX-License-Identifier: Apache-2.0
"""Verbs on a lab: a cluster on this machine. `ciliumpy.lab` does the work; here are flags and text."""
