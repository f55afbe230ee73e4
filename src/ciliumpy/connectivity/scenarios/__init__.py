# SPDX-License-Identifier: Apache-2.0
"""One file a subject. A file has a `TEST`, or `TESTS`; scenarios are its functions. See docs/guide/connectivity.md."""
