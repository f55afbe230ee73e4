# SPDX-License-Identifier: Apache-2.0
"""Policy at work in a lab: real pods, real packets, and what the rules say beside it."""
