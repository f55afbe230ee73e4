# SPDX-License-Identifier: Apache-2.0
"""Small things every layer may use: errors, clock, back-off, units. Standard library only, no I/O."""
