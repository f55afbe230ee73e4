# SPDX-License-Identifier: Apache-2.0
"""Whole comparisons, measured in one run and printed beside their marks; never part of the tests.

`python -m tests.bench [startup|agent|path|overlay|ring]` prints a table a benchmark and, as its last line, one JSON
object. Result keys are listed in docs/reference/bench.md and never renamed. A missed mark is a result, not a failure:
the exit code stays 0.
"""
