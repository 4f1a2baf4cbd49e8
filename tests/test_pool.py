"""A pool is N single streams, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from contract import floats
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from small import recurrent_engine

from streamrnn import InputError, NonFiniteError, Stream, StreamPool

ENGINE = recurrent_engine()
SLOTS = 4


class PoolAgainstStreams(RuleBasedStateMachine):
    """Join, leave, reset, snapshot and step in any order; each joined slot has a Stream as its twin."""

    @initialize()
    def begin(self) -> None:
        self.pool = StreamPool(ENGINE, SLOTS)
        self.twins: dict[int, Stream] = {}
        self.seed = 0

    @precondition(lambda self: len(self.twins) < SLOTS)
    @rule()
    def join(self) -> None:
        self.twins[self.pool.join()] = Stream(ENGINE)

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.twins)))
        self.pool.leave(slot)
        del self.twins[slot]

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.twins)))
        self.pool.reset(slot)
        self.twins[slot].reset()

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        source, target = (data.draw(st.sampled_from(sorted(self.twins))) for _ in range(2))
        snapshot = self.pool.snapshot(source)
        assert snapshot == self.twins[source].snapshot()
        self.pool.restore(target, snapshot)
        self.twins[target].restore(snapshot)

    @rule()
    def step(self) -> None:
        self.seed += 1
        X = floats(self.seed, SLOTS, 3)
        Y = self.pool.step(X)
        for slot in range(SLOTS):
            if slot in self.twins:
                np.testing.assert_array_equal(Y[slot], self.twins[slot].step(X[slot]))
            else:
                assert not Y[slot].any()

    @invariant()
    def active_is_what_was_joined(self) -> None:
        if hasattr(self, "pool"):
            assert set(np.flatnonzero(self.pool.active)) == set(self.twins)


TestPoolAgainstStreams = PoolAgainstStreams.TestCase
TestPoolAgainstStreams.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_full_pool_and_unknown_slots_are_refused() -> None:
    pool = StreamPool(ENGINE, 1)
    pool.join()
    with pytest.raises(InputError, match="taken"):
        pool.join()
    with pytest.raises(InputError, match="slot 1"):
        pool.reset(1)
    with pytest.raises(InputError, match="one row per slot"):
        pool.step(floats(1, 2, 3))
    with pytest.raises(InputError, match="at least one"):
        StreamPool(ENGINE, 0)


def test_a_bad_frame_in_one_slot_leaves_the_others_stepping() -> None:
    pool = StreamPool(ENGINE, 2, on_nonfinite="raise")
    first, second = pool.join(), pool.join()
    X = floats(3, 2, 3)
    X[first, 0] = np.nan
    with pytest.raises(NonFiniteError, match=rf"\[{first}\]"):
        pool.step(X)
    assert (pool.steps(first), pool.steps(second)) == (0, 1)
