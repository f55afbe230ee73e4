# SPDX-License-Identifier: Apache-2.0
"""Flows: from the datapath's event records to what people read.

The way of the data: rings -> pipeline.py (drain, wall time, losses) -> enrich.py (names, while they are true) ->
expand.py (one record becomes Hubble's flows) -> history.py (a ring of column blocks) -> query.py and filters.py (a mask
over columns) -> to_flow.py (protobuf, only for rows that pass) -> printers.py, jsonpb.py. match.py is the same filter
language over finished flows, for recorded files. monitor.py prints the records themselves.

Invariants: a row never changes once it is in the history; names are those at the time of arrival; a filter field that
cannot be honoured is refused, never ignored; losses are counted and shown. Not here: sockets, servers, the kernel.
"""
