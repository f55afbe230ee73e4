# SPDX-License-Identifier: Apache-2.0
"""Where desired objects come from, and how they become rows of the source tables.

    files -> directory/watch -> documents -> decode -> catalog (which version of which object is in force)
          -> reflector -> tables/source.py

Invariants:

- A store that cannot be read is an error and never an empty set; what was in force stays in force.
- A bad object is refused whole, with file, line and field; its last good version stays in force, over restarts too.
- Of two files that hold the same object one is in force, the other is refused, and both are named.
- What is shared between agents (identities, nodes, endpoints) changes under one lock; nobody reads half a file.

It does not decide what objects mean (model/ and the controllers do), and it does not rewrite what users wrote.
"""
