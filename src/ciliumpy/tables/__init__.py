# SPDX-License-Identifier: Apache-2.0
"""Every row and its indexes, one file a domain: the place where controllers meet.

A row is a frozen struct of plain values. Source rows come from the store, derived rows from controllers, desired rows
are what the kernel shall hold. Nobody but the owner named in a table's docstring writes it. Addresses and prefixes are
text in the form that `ipaddress` prints; labels are sorted `source:key=value` strings.
"""
