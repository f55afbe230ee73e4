# SPDX-License-Identifier: Apache-2.0
"""A bit means one selector at a time, for every vector and every set that the kernel may have."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ciliumpy.enforcement.bits import Bits
from ciliumpy.enforcement.encode import DoesNotFitError
from ciliumpy.enforcement.memory import FileMemory
from ciliumpy.model.selectors import all_of, equals
from tests.soak import scaled

SELECTORS = [all_of(equals("k8s", "app", f"a{i}")) for i in range(8)]


class Life(RuleBasedStateMachine):
    """Sets come and go; the kernel's vectors have the bits that they were last given."""

    def __init__(self) -> None:
        super().__init__()
        self.bits = Bits(5, {SELECTORS[0]: 3})
        self.kernel_bits = {3: SELECTORS[0]}  # bit -> the selector it was given for, as vectors have it
        self.kernel_sets = {0: {SELECTORS[0]: 3}}
        self.clearing: list = []
        self.number = 0

    @rule(wanted=st.lists(st.sampled_from(SELECTORS), max_size=4, unique=True))
    def write_set(self, wanted):
        before = dict(self.bits.assigned)
        try:
            new = self.bits.take(wanted)
        except DoesNotFitError:
            assert dict(self.bits.assigned) == before, "all or none"
            assert len(before) + len([s for s in wanted if s not in before]) > 5
            return
        for selector in new:
            bit = self.bits[selector]
            assert self.kernel_bits.get(bit, selector) == selector, "a bit is taken only when no vector has it"
            self.kernel_bits[bit] = selector
        assert all(self.kernel_bits[self.bits[selector]] == selector for selector in wanted)
        self.number += 1
        self.bits.hold(self.number, wanted)
        self.kernel_sets[self.number] = {selector: self.bits[selector] for selector in wanted}

    @precondition(lambda self: self.kernel_sets)
    @rule(data=st.data())
    def delete_set(self, data):
        number = data.draw(st.sampled_from(sorted(self.kernel_sets)))
        del self.kernel_sets[number]
        self.bits.let_go(number)

    @precondition(lambda self: not self.clearing)
    @rule()
    def clear(self):
        self.clearing = self.bits.clear()
        for selector in self.clearing:
            assert not any(selector in named for named in self.kernel_sets.values())

    @rule()
    def cleared(self):
        freed = self.bits.cleared(self.clearing)
        for bit in freed:
            del self.kernel_bits[bit]
        self.clearing = []

    @invariant()
    def a_set_means_what_it_was_written_for(self):
        for named in self.kernel_sets.values():
            for selector, bit in named.items():
                assert self.kernel_bits[bit] == selector
                assert self.bits[selector] == bit


Life.TestCase.settings = settings(max_examples=scaled(60), stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


def test_a_full_node_says_how_many_are_missing():
    bits = Bits(2, {})
    bits.take(SELECTORS[:1])
    with pytest.raises(DoesNotFitError, match="it needs 3 more selectors, 1 of this node's 2 bits are free"):
        bits.take(SELECTORS[1:4])


class TestMemory:
    def test_bits_come_back(self, tmp_path):
        memory = FileMemory(tmp_path / "bits.json", 64)
        memory.save({SELECTORS[0]: 5, SELECTORS[1]: 0})
        assert FileMemory(tmp_path / "bits.json", 64).load() == {SELECTORS[0]: 5, SELECTORS[1]: 0}
        assert [path.name for path in tmp_path.iterdir()] == ["bits.json"]

    @pytest.mark.parametrize("content", [b"", b"{}", b"[[1]]", b'[[99,{"alternatives":[]}]]', b"\xff\xff"])
    def test_a_damaged_file_is_no_memory(self, tmp_path, content, caplog):
        (tmp_path / "bits.json").write_bytes(content)
        assert FileMemory(tmp_path / "bits.json", 64).load() is None
        assert "selector bits are given anew" in caplog.text

    def test_no_file_is_no_memory(self, tmp_path):
        assert FileMemory(tmp_path / "bits.json", 64).load() is None
