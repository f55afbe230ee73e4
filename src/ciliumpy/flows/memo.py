# SPDX-License-Identifier: Apache-2.0
"""Answers remembered by key, asked for whole columns at once: what a join of millions of records a second needs.

A direct-mapped table in columns: a key has one place, by its hash, and who comes later takes it over. Nothing is sorted
and nothing grows. A key that is not there is asked for once a call, however often it stands in the columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Words = NDArray[np.uint64]
Answers = NDArray[np.uint32]

_BITS = 14
_COMMON = 4  # missing keys that are given to all their positions at once: after `clear` most of a burst has one key
# Odd numbers without pattern, one a word of a key; a key's place is the upper bits of the sum of products.
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xFF51AFD7ED558CCD)


class Memo:
    """Remembers `look_up`, which gets a key's words as numbers and gives `answers` numbers below 2^32."""

    def __init__(self, words: int, answers: int, look_up: Callable[..., Sequence[int]], bits: int = _BITS) -> None:
        self._look_up = look_up
        self._shift = np.uint64(64 - bits)
        self._keys = np.zeros((words, 1 << bits), np.uint64)
        self._valid = np.zeros(1 << bits, bool)
        self._answers = np.zeros((1 << bits, answers), np.uint32)

    def clear(self) -> None:
        """Forget everything."""
        self._valid[:] = False

    def of(self, *words: Words) -> Answers:
        """Return the answers of each key, one row a key. `words`: columns of equal length, one for each word."""
        place = self._place(words)
        hit = self._valid[place]
        for mine, asked in zip(self._keys, words, strict=True):
            hit &= mine[place] == asked
        found: Answers = self._answers[place]
        if not hit.all():
            self._fill(np.flatnonzero(~hit), words, place, found)
        return found

    def _place(self, words: Sequence[Words]) -> NDArray[np.uint64]:
        mixed = words[0] * np.uint64(_FACTORS[0])
        for word, factor in zip(words[1:], _FACTORS[1:], strict=False):
            mixed ^= mixed >> np.uint64(29)
            mixed += word * np.uint64(factor)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(_FACTORS[-1])
        return mixed >> self._shift

    def _fill(self, missing: NDArray[np.intp], words: Sequence[Words], place: Words, found: Answers) -> None:
        """Look up the keys at the positions `missing`, each once, and remember them."""
        for _ in range(_COMMON):
            if not len(missing):
                return
            first = missing[0]
            same = np.logical_and.reduce([word[missing] == word[first] for word in words])
            found[missing[same]] = self._learn(int(place[first]), tuple(int(word[first]) for word in words))
            missing = missing[~same]
        asked: dict[tuple[int, ...], Any] = {}
        columns = [word[missing].tolist() for word in words]
        for position, at, key in zip(
            missing.tolist(), place[missing].tolist(), zip(*columns, strict=True), strict=True
        ):
            answer = asked.get(key)
            if answer is None:
                answer = asked[key] = self._learn(at, key)
            found[position] = answer

    def _learn(self, at: int, key: tuple[int, ...]) -> Sequence[int]:
        answer = self._look_up(*key)
        self._answers[at] = answer
        self._keys[:, at] = key
        self._valid[at] = True
        return answer
