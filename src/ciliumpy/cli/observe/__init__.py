# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy observe`: flags as hubble has them, their meaning as filters, live or from a file."""
