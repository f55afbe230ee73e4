# SPDX-License-Identifier: Apache-2.0
"""Joins by column give what a lookup of each record gives, and batches the rows they would have been at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.flows.columns import FLOW
from ciliumpy.flows.enrich import Enricher
from ciliumpy.flows.history import History
from ciliumpy.flows.memo import Memo
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from tests.unit.flows import events
from tests.unit.flows.events import (
    AGGREGATE,
    ALLOWED,
    API_IP,
    CLOSE,
    DEFAULT_DENIED,
    DENIED,
    DROP,
    FRONTEND_IP,
    NO_POLICY,
    REDIRECTED,
    VISITOR_IP,
    event,
)

WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 3)


@given(st.lists(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=40), max_size=6), st.integers(1, 4))
def test_answers_are_those_of_the_lookup_however_keys_collide(calls, bits):
    asked: Counter[tuple[int, int]] = Counter()

    def look_up(first, second):
        asked[first, second] += 1
        return (first ^ second) & 0xFFFFFFFF, first % 1000

    memo = Memo(2, 2, look_up, bits)
    for call in calls:
        before = Counter(asked)
        columns = np.array(call, np.uint64).T
        found = memo.of(*columns)
        assert found.tolist() == [[(a ^ b) & 0xFFFFFFFF, a % 1000] for a, b in call]
        assert max((asked - before).values(), default=0) <= 1  # once a call at most


def test_what_is_known_is_not_asked_again_until_it_is_forgotten():
    asked = []

    def look_up(key):
        asked.append(key)
        return (key + 1,)

    memo = Memo(1, 1, look_up)
    keys = np.array([5, 6, 5], np.uint64)
    for _ in range(3):
        assert memo.of(keys).tolist() == [[6], [7], [6]]
    assert asked == [5, 6]
    memo.clear()
    memo.of(keys)
    assert asked == [5, 6, 5, 6]


RECORDS = st.builds(
    event,
    st.sampled_from([1, DROP, AGGREGATE, CLOSE, 77]),
    st.sampled_from([FRONTEND_IP, API_IP, VISITOR_IP, "192.0.2.9", "fd00:10:244::5"]),
    st.sampled_from([FRONTEND_IP, API_IP, VISITOR_IP]),
    reason=st.sampled_from([0, 133, 181]),
    src_endpoint=st.sampled_from([0, 5]),
    ingress=st.tuples(
        st.sampled_from([0, 7]),
        st.just(0),
        st.just(0),
        st.sampled_from([0, ALLOWED, DENIED, DEFAULT_DENIED, REDIRECTED, NO_POLICY]),
    ),
    egress=st.tuples(st.just(0), st.just(0), st.just(0), st.sampled_from([0, 1, ALLOWED, DEFAULT_DENIED, NO_POLICY])),
)


@given(st.lists(st.tuples(st.booleans(), st.lists(RECORDS, min_size=1, max_size=5)), max_size=8), st.integers(1, 60))
def test_batches_are_the_rows_they_would_have_been_at_once(parts, capacity):
    late, soon = History(capacity, block=7), History(capacity, block=7)
    enricher = Enricher(events.cluster(), late.names)
    for as_batch, records in parts:
        batch = enricher.batch(events.block(*records), 1000)
        rows = enricher.rows(events.block(*records), 1000)
        assert batch.count == len(rows)
        soon.append(rows)
        if as_batch:
            late.append_batch(batch)
        else:
            late.append(rows)
    assert (late.start, late.end, len(late)) == (soon.start, soon.end, len(soon))
    assert {late.names.parties[n] for n in _ids(soon)} <= set(late.parties(0))
    middle = (soon.start + soon.end) // 2
    for start, end in ((middle, soon.end), (0, middle), (0, soon.end)):
        assert _whole(late.spans(start, end)) == _whole(soon.spans(start, end))
    backwards = [rows for _, rows in late.spans_backwards()][::-1]
    assert _whole(backwards) == _whole(soon.spans(0, soon.end))


def test_a_batch_keeps_the_names_of_its_time():
    db = events.cluster()
    history = History()
    enricher = Enricher(db, history.names)
    batch = enricher.batch(event(AGGREGATE, VISITOR_IP, src_identity=events.VISITOR, src_endpoint=0), 0)
    history.append_batch(batch)
    with db.write() as txn:
        entry = db.table(IPCACHE).get(f"{VISITOR_IP}/32")
        txn.upsert(IPCACHE, IPCacheEntry(f"{VISITOR_IP}/32", entry.identity, namespace="other", pod="newcomer"))
    enricher.rows(event(), 0)
    (rows,) = history.spans(0, 1)
    assert history.names.parties[int(rows["src_party"][0])].pod == "visitor-1"


def _whole(spans) -> list[tuple]:
    return np.concatenate([np.empty(0, FLOW), *spans]).tolist()


def _ids(history) -> list[int]:
    spans = [*history.spans(0, history.end), np.empty(0, FLOW)]
    return sorted({number for rows in spans for side in ("src", "dst") for number in rows[f"{side}_party"].tolist()})
