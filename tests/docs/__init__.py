# SPDX-License-Identifier: Apache-2.0
"""The console blocks of the documentation, run as they stand, each page on a machine of its own."""
