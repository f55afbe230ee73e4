# SPDX-License-Identifier: Apache-2.0
"""Runs all benchmarks, or the one that is named."""

from __future__ import annotations

import importlib
import sys

BENCHES = ("startup", "agent", "cost", "path", "overlay", "ring", "churn", "policy")


def main() -> int:
    names = sys.argv[1:] or list(BENCHES)
    for name in names:
        if name not in BENCHES:
            print(f"bench: no benchmark is called {name}; there are {', '.join(BENCHES)}", file=sys.stderr)
            return 2
    for name in names:
        importlib.import_module(f"tests.bench.{name}").run().show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
