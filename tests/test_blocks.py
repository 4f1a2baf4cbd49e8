"""Blocks: what is computed for many steps at once, and that nobody can tell. `contract` runs every op's cases through them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from contract import floats
from hypothesis import given, settings
from hypothesis import strategies as st
from small import recurrent_clip, recurrent_engine, typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, InputError, NonFiniteError, Stream
from streamrnn.groups import in_groups
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.types import TensorType
from streamrnn.plan import Call, Repeat, StepPlan
from streamrnn.stream import OnNonFinite

#: an item of a step: (the buffers that it reads, the one that it writes)
Item = tuple[frozenset[int], int]
#: buffers from this number on are carried from step to step, those below it belong to one step
CARRIED = 4


@st.composite
def steps(draw: st.DrawFn) -> list[Item]:
    """Items that read what of their own step was written before, and any carried buffer."""
    found: list[Item] = []
    for _ in range(draw(st.integers(1, 12))):
        known = sorted({target for _, target in found} | set(range(CARRIED, CARRIED + 3)))
        found.append((frozenset(draw(st.lists(st.sampled_from(known), max_size=3))), draw(st.integers(0, CARRIED + 2))))
    return found


def values(items: Sequence[Item], order: Sequence[tuple[int, int]]) -> dict[tuple[int, int], object]:
    """What each (item, step) computes, where items run in `order`: a value is the item and the values that it read."""
    memory: dict[object, object] = {}
    found: dict[tuple[int, int], object] = {}

    def key(buffer: int, step: int) -> object:
        return buffer if buffer >= CARRIED else (buffer, step)

    for i, step in order:
        read, target = items[i]
        found[i, step] = hash((i, step, tuple(memory.get(key(b, step)) for b in sorted(read))))
        memory[key(target, step)] = found[i, step]
    return found


@settings(max_examples=300, deadline=None)
@given(items=steps())
def test_groups_one_after_the_other_compute_what_steps_compute(items: list[Item]) -> None:
    own = [{b for b in read if b < CARRIED} for read, _ in items]
    written = [{target} - set(range(CARRIED, CARRIED + 3)) for _, target in items]
    stored = {target for _, target in items if target >= CARRIED}
    groups = in_groups(own, written, [stored & (read | {target}) for read, target in items])
    assert sorted(i for group in groups for i in group) == list(range(len(items)))
    by_group = [(i, t) for group in groups for t in range(3) for i in group]
    by_step = [(i, t) for t in range(3) for i in range(len(items))]
    assert values(items, by_group) == values(items, by_step)


def test_what_waits_for_no_state_is_a_group_of_its_own() -> None:
    before, cell, behind = ({0}, {1}, set()), ({1}, {2}, {9}), ({2}, {3}, set())
    read, written, carried = zip(before, cell, behind, strict=True)
    assert in_groups(read, written, carried) == [[0], [1], [2]]
    assert in_groups(read, written, [{9}, {9}, set()]) == [[0, 1], [2]]


def block_plan(engine: Engine) -> StepPlan:
    assert engine.plan.block is not None
    return engine.plan.block.plan


@pytest.mark.parametrize(("op", "product"), [("LSTM", "project_four"), ("GRU", "dense"), ("RNN", "dense")])
def test_the_input_of_all_steps_is_one_product_in_front_of_the_recurrence(op: str, product: str) -> None:
    engine = recurrent_engine(op=op)  # type: ignore[arg-type]
    block = block_plan(engine)
    calls = [call for call in block.calls if isinstance(call, Call)]
    assert not any(isinstance(item, Repeat) for item in block.calls)
    assert calls[0].kernel.__name__ == product
    sizes = [dict(zip((n for n, _ in c.kernel.params), c.args, strict=True)) for c in calls]
    assert [s.get("frames", s.get("rows")) for s in sizes] == [32] * len(calls)


def test_memory_of_a_block_is_not_memory_of_a_step() -> None:
    plan = recurrent_engine().plan
    assert plan.block is not None
    assert plan.arena_bytes == plan.block.plan.arena_bytes
    assert plan.step_bytes == plan.arena_bytes - plan.block_bytes < plan.arena_bytes
    held = [slot for (space, slot) in plan.buffers if space != "weights"]
    assert max(slot.offset + slot.size for slot in held) <= plan.step_bytes


X = floats(7, 150, 3)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return recurrent_engine()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), policy=st.sampled_from(["pass", "hold", "reset"]))
def test_frames_that_are_not_finite_are_mended_in_a_block_as_in_a_step(
    engine: Engine, data: st.DataObject, policy: OnNonFinite
) -> None:
    bad = data.draw(st.lists(st.tuples(st.integers(0, 149), st.integers(0, 2)), max_size=3))
    frames = X.copy()
    for t, k in bad:
        frames[t, k] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    block, single = Stream(engine, on_nonfinite=policy), Stream(engine, on_nonfinite=policy)
    found = np.asarray(block.process(frames))
    np.testing.assert_array_equal(found, np.stack([single.step(x) for x in frames]))
    assert (block.steps, block.mended) == (single.steps, single.mended)
    if policy != "pass":  # the payload of a NaN is no promise
        assert block.snapshot() == single.snapshot()


@pytest.mark.parametrize("bad", [0, 31, 32, 40, 100])
def test_a_refused_frame_ends_a_block_in_front_of_it(engine: Engine, bad: int) -> None:
    frames = X.copy()
    frames[bad, 1] = np.nan
    block, single = Stream(engine, on_nonfinite="raise"), Stream(engine, on_nonfinite="raise")
    with pytest.raises(NonFiniteError, match=f"frame {bad} "):
        block.process(frames)
    for x in frames[:bad]:
        single.step(x)
    assert block.steps == bad
    assert block.snapshot() == single.snapshot()


def test_a_held_frame_is_the_last_one_of_the_block(engine: Engine) -> None:
    block, single = Stream(engine, on_nonfinite="hold"), Stream(engine, on_nonfinite="hold")
    block.process(X[:64])
    for x in X[:64]:
        single.step(x)
    lost = np.array([np.nan, 1, np.nan], np.float32)
    np.testing.assert_array_equal(block.step(lost), single.step(lost))


def test_the_output_of_a_block_may_be_its_input() -> None:
    engine = recurrent_engine(n_in=2, n_out=2)
    block_plan(engine)
    frames = floats(3, 100, 2)
    expected = Stream(engine).process(frames)
    Stream(engine).process(frames, out=frames)
    np.testing.assert_array_equal(frames, expected)


def look_ahead_engine() -> Engine:
    """x [8, 1, 3] -> a convolution that looks 2 frames ahead -> LSTM."""
    clip = recurrent_clip(frames=8)
    constants = {**clip.constants, "F": floats(8, 3, 3, 5)}
    nodes = (
        Node("Transpose", "to_channels", ("x0",), ("t",), {"perm": (1, 2, 0)}),
        Node("Conv", "ahead", ("t", "F"), ("u",), {"pads": (2, 2)}),
        Node("Transpose", "to_frames", ("u",), ("x",), {"perm": (2, 0, 1)}),
        *clip.nodes,
    )
    types = {"x0": TensorType.of(np.zeros((8, 1, 3), np.float32))}
    return Engine(align(streamify(typed(Graph("ahead", Stage.SEQUENCE, ("x0",), ("y",), nodes, types, constants)), {"x0": 0})))


def test_steps_with_filler_are_made_one_by_one() -> None:
    engine = look_ahead_engine()
    assert engine.delay == 2
    assert engine.plan.block is not None
    assert engine.plan.block.after == 2
    block, single = Stream(engine), Stream(engine)
    np.testing.assert_array_equal(block.process(X), np.stack([single.step(x) for x in X]))
    assert block.snapshot() == single.snapshot()
    np.testing.assert_array_equal(block.process(X), np.stack([single.step(x) for x in X]))


def test_a_reset_in_a_block_starts_the_filler_anew() -> None:
    engine = look_ahead_engine()
    frames = X.copy()
    frames[50, 0] = np.nan
    block, single = Stream(engine, on_nonfinite="reset"), Stream(engine, on_nonfinite="reset")
    np.testing.assert_array_equal(block.process(frames), np.stack([single.step(x) for x in frames]))
    assert block.snapshot() == single.snapshot()


def test_a_frame_of_the_wrong_shape_is_refused_before_a_block(engine: Engine) -> None:
    stream = Stream(engine)
    with pytest.raises(InputError):
        stream.process(X[:, :2])
    assert stream.steps == 0
