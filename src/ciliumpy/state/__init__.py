# SPDX-License-Identifier: Apache-2.0
"""State as tables that controllers write, watch and reconcile.

Idea: everything the process knows stands in a few tables of frozen rows. A controller watches tables, calls a pure
function, writes tables. What the kernel shall hold is a table too; a reconciler carries it there.

Invariants:

- One event loop owns a database. A write transaction is a synchronous `with` block that never awaits, so nobody sees
  half of one; an exception in it undoes all of it.
- Every write has a revision, unique and growing over all tables. Writing an equal row is no write.
- An observer gets every change after its last `take()` once, oldest first. Several changes of one row between two
  takes are one change: the last. A deletion is kept (graveyard) until every observer has it.
- What a reconciler says of a row (pending, done, error) stands beside it, outside of the feed: it wakes only those who
  wait for that row, and what it says of an old revision is dropped.
- Tasks are made by `jobs` alone; each has a name, a restart policy and health.

It does no I/O but reading the configuration, knows no row by name, and persists nothing.
"""
