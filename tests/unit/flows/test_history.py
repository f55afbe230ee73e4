# SPDX-License-Identifier: Apache-2.0
"""The ring of columns, and which of its rows a request gets, against a list that does the same."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.flows import columns
from ciliumpy.flows.columns import FLOW
from ciliumpy.flows.filters import FlowMatcher
from ciliumpy.flows.history import BLOCK, SWEEP_EVERY, History
from ciliumpy.flows.names import Party
from ciliumpy.flows.query import CHUNK, Query, Selection
from ciliumpy.kit.clock import SystemClock
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto.flow_pb2 import FlowFilter


def rows(*times, dropped=False):
    made = np.zeros(len(times), FLOW)
    made["time"] = times
    made["seq"] = times
    made["event_type"] = columns.TRACE
    made["verdict"] = columns.DROPPED if dropped else columns.FORWARDED
    return made


def selection(history, query, *whitelist):
    return Selection(history, FlowMatcher(whitelist, [], history.names), query, SystemClock())


def times(found):
    return [int(time) for part in found for time in part["time"]]


@given(
    st.lists(st.integers(0, 30), max_size=30),
    st.integers(1, 100),
    st.integers(1, 20),
)
def test_it_holds_the_newest_and_nothing_else(sizes, capacity, block):
    history = History(capacity, block=block)
    everything: list[int] = []
    for size in sizes:
        fresh = list(range(len(everything), len(everything) + size))
        history.append(rows(*fresh))
        everything += fresh
    kept = everything[-capacity:]
    assert times(history.spans(0, history.end)) == kept
    assert len(history) == len(kept)
    assert (history.start, history.end) == (len(everything) - len(kept), len(everything))
    backwards = list(history.spans_backwards())
    assert times(part for _, part in reversed(backwards)) == kept
    for position, part in backwards:
        assert times([part])[0] == position
    middle = (history.start + history.end) // 2
    assert times(history.spans(middle, history.end)) == everything[middle:]
    assert history.memory <= (capacity + 2 * block) * FLOW.itemsize


def test_blocks_are_allocated_as_they_fill():
    history = History()
    assert history.memory == 0
    history.append(rows(1))
    assert history.memory == BLOCK * FLOW.itemsize


def test_a_reader_keeps_its_rows_while_writing_goes_on():
    history = History(8, block=4)
    history.append(rows(*range(4)))
    mine = history.spans(0, 4)
    history.append(rows(*range(4, 40)))
    assert times(mine) == [0, 1, 2, 3]


def test_names_that_no_row_uses_are_freed():
    history = History(4, block=1, sweep_from=2)
    kept = history.names.parties.id(Party("kept"))
    gone = history.names.parties.id(Party("gone"))
    old = rows(0)
    old["src_party"] = gone
    history.append(old)
    for n in range(4 + SWEEP_EVERY):
        new = rows(n)
        new["dst_party"] = kept
        history.append(new)
    assert history.names.parties[kept] == Party("kept")
    assert history.names.parties[gone] == Party()
    assert history.names.generation == 1
    assert history.parties(since_ns=0) == [Party(), Party("kept")]


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(0, 70),
    st.booleans(),
    st.none() | st.integers(0, 70),
    st.none() | st.integers(0, 70),
    st.booleans(),
)
def test_windows(drops, number, first, since, until, filtered):
    history = History(40, block=7)
    for time, dropped in enumerate(drops):
        history.append(rows(time, dropped=dropped))
    wanted = [
        time
        for time in range(max(0, len(drops) - 40), len(drops))
        if (drops[time] or not filtered) and (since is None or time >= since) and (until is None or time <= until)
    ]
    if number:
        wanted = wanted[:number] if first or since is not None else wanted[-number:]
    filters = [FlowFilter(verdict=[2])] if filtered else []
    query = Query(number, first, follow=False, since=since, until=until)
    assert times(selection(history, query, *filters).recorded()) == wanted


def test_a_loss_is_sent_and_not_counted():
    history = History(100)
    history.append(np.concatenate([rows(1, 2), columns.loss(3, 9, columns.LOST_IN_KERNEL), rows(4, 5)]))
    assert history.lost == 9
    assert times(selection(history, Query(3)).recorded()) == [2, 3, 4, 5]
    assert times(selection(history, Query(3, first=True)).recorded()) == [1, 2, 3, 4]
    assert times(selection(history, Query(), FlowFilter(verdict=[2])).recorded()) == [3]


def test_first_and_follow_contradict_each_other():
    with pytest.raises(CiliumpyError, match="first cannot be specified with follow"):
        selection(History(), Query(1, first=True, follow=True))


async def test_following_begins_with_what_was_asked_and_goes_on():
    history = History(100)
    history.append(rows(*range(10)))
    stream = selection(history, Query(2, follow=True)).rows()
    assert times([await anext(stream)]) == [8, 9]
    later = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not later.done()
    history.append(rows(10, 11))
    assert times([await later]) == [10, 11]
    await stream.aclose()


async def test_following_without_a_number_begins_now():
    history = History(100)
    history.append(rows(*range(10)))
    stream = selection(history, Query(follow=True)).rows()
    later = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    history.append(rows(10))
    assert times([await later]) == [10]
    await stream.aclose()


async def test_who_is_overtaken_is_told_how_many_it_missed():
    history = History(10, block=4)
    history.append(rows(*range(5)))
    stream = selection(history, Query(follow=True)).rows()
    later = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    history.append(rows(*range(5, 40)))
    loss = await later
    assert loss["event_type"].tolist() == [columns.LOST]
    assert loss["ktime"].tolist() == [25]
    found = []
    async for part in stream:
        found += times([part])
        if len(found) == 10:
            break
    assert found == list(range(30, 40))
    await stream.aclose()


async def test_following_ends_when_until_has_passed():
    history = History(100)
    stream = selection(history, Query(follow=True, until=5)).rows()
    reader = asyncio.ensure_future(_collect(stream))
    await asyncio.sleep(0)
    history.append(rows(4, 5, 6))
    assert await reader == [4, 5]


async def _collect(stream):
    return [time async for part in stream for time in times([part])]


async def test_much_is_handed_out_in_parts():
    history = History()
    history.append(rows(*range(3 * CHUNK)))
    parts = [part async for part in selection(history, Query()).rows()]
    assert max(map(len, parts)) <= CHUNK
    assert times(parts) == list(range(3 * CHUNK))
