# SPDX-License-Identifier: Apache-2.0
"""What outsiders write, broken at random: it is taken or refused, and nothing else happens."""
