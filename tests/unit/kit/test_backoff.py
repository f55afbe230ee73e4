# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ciliumpy.kit.backoff import Backoff


def test_it_doubles_up_to_the_limit() -> None:
    backoff = Backoff(first_s=1, most_s=10, factor=2, jitter=0)
    assert [backoff.delay_s(n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(failures=st.integers(0, 10**9), chance=st.floats(0, 1))
def test_it_stays_within_its_bounds(failures: int, chance: float) -> None:
    backoff = Backoff(first_s=0.1, most_s=60, jitter=0.3)
    delay = backoff.delay_s(failures, lambda: chance)
    assert 0.07 <= delay <= 60
    assert backoff.delay_s(failures, lambda: 0.0) * 0.7 <= delay <= backoff.delay_s(failures, lambda: 0.0)
