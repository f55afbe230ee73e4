# SPDX-License-Identifier: Apache-2.0
"""Reference and manual pages, made from the code: `python -m ciliumpy.cli.reference [FOLDER]` writes them all.

Each page is a module with a function `page()`; a test makes them again and compares. They need a checkout: maps and
drop reasons are read from the datapath's sources.
"""
