# SPDX-License-Identifier: Apache-2.0
"""Turns policies, identities and local endpoints into the rows that the kernel shall hold.

The engine in `policy` is pure; here its results get numbers. Every selector that a set names has a bit, every identity
has a vector of the bits that it meets, every local identity has a set. Invariants: vectors have a selector's bit before
a set names it; a bit is free only when no set in the kernel names it and every vector has it clear; set and class
numbers are never used twice; a set that does not fit is refused whole, and the former one stays in force.
"""
