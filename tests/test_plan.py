"""The memory planner's invariant: what lives at the same time never overlaps, states are never overwritten early."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from contract import floats
from hypothesis import given, settings
from hypothesis import strategies as st
from small import recurrent_clip, typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, GraphError, Stream, UnsupportedError
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.graph import Graph, Node, Stage, State
from streamrnn.ir.lowering import Place
from streamrnn.ir.types import DType, TensorType
from streamrnn.plan import Call, Copy, Item, Loop, Repeat, StepPlan, When
from streamrnn.planner import make_plan


def step_graph(nodes: list[Node], inputs: dict[str, int], outputs: list[str], states: tuple[State, ...] = ()) -> Graph:
    """A step graph over float32 vectors."""
    types = {name: TensorType(DType.F32, (size,)) for name, size in inputs.items()}
    types |= {s.read: TensorType.of(s.init) for s in states}
    return typed(Graph("g", Stage.STEP, tuple(inputs), tuple(outputs), tuple(nodes), types, {}, states))


def accesses(plan: StepPlan) -> tuple[list[set[int]], list[tuple[int, int]]]:
    """The buffers of each call, in plan order, and the spans of the loops."""
    found: list[set[int]] = []
    loops: list[tuple[int, int]] = []

    def visit(items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, When | Repeat):
                start = len(found)
                count = item.count if isinstance(item, Repeat) else None
                found.append({place.buffer for place in (item.condition, count) if place is not None})
                visit(item.calls)
                if isinstance(item, Repeat):
                    found.append(set(found[start]))
                    loops.append((start, len(found) - 1))
            elif isinstance(item, Call):
                found.append({a.buffer for a in item.args if isinstance(a, Place)})
            elif isinstance(item, Loop):
                found.append({p.buffer for p, _ in item.inputs} | {item.output.buffer})
            else:
                found.append({item.source.buffer, item.target.buffer})

    visit((*plan.calls, *plan.commit))
    return found, loops


def assert_no_overlap(plan: StepPlan) -> None:
    steps, loops = accesses(plan)
    times: dict[int, list[int]] = {}
    for at, buffers in enumerate(steps):
        for buffer in buffers:
            times.setdefault(buffer, []).append(at)
    end = len(steps) - len(plan.commit)
    for port in plan.outputs:
        times.setdefault(port.place.buffer, []).append(end)
    spans = {buffer: (min(at), max(at)) for buffer, at in times.items()}
    for start, stop in loops:
        for buffer, at in times.items():
            inside = any(start <= t <= stop for t in at)
            if inside and not all(start <= t <= stop for t in at):  # it carries something into the loop or out of it
                first, last = spans[buffer]
                spans[buffer] = min(first, start), max(last, stop)
    scratch = [b for b, (space, _) in enumerate(plan.buffers) if space == "scratch" and b in spans]
    for a in scratch:
        slot = plan.buffers[a][1]
        assert slot.offset % 64 == 0
        assert plan.state_bytes <= slot.offset <= slot.offset + slot.size <= plan.step_bytes
        for b in scratch:
            other = plan.buffers[b][1]
            together = spans[a][0] <= spans[b][1] and spans[b][0] <= spans[a][1]
            if a < b and together:
                assert slot.offset + slot.size <= other.offset or other.offset + other.size <= slot.offset


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_values_that_live_together_never_overlap(data: st.DataObject) -> None:
    values, nodes = ["x"], []
    for i in range(data.draw(st.integers(1, 14))):
        a, b = (data.draw(st.sampled_from(values)) for _ in range(2))
        nodes.append(Node("Add", f"n{i}", (a, b), (f"v{i}",)))
        values.append(f"v{i}")
    outputs = data.draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    state = State("s", "s.read", data.draw(st.sampled_from(values)), np.zeros(5, np.float32))
    nodes.append(Node("Add", "last", ("s.read", values[-1]), ("y",)))
    plan = make_plan(step_graph(nodes, {"x": 5}, [*outputs, "y"], (state,)))
    assert_no_overlap(plan)


def test_a_recurrent_plan_never_overlaps() -> None:
    plan = make_plan(align(streamify(recurrent_clip(), {"x": 0})))
    assert_no_overlap(plan)


def test_states_are_updated_in_place_without_a_copy() -> None:
    plan = make_plan(align(streamify(recurrent_clip(), {"x": 0})))
    assert not plan.commit
    assert not [c for c in plan.calls if isinstance(c, Copy)]


def test_states_that_feed_each_other_keep_the_old_values_until_all_are_read() -> None:
    """A shift register: b takes a's old value, a takes x, c takes b's old value."""
    zero = np.zeros(2, np.float32)
    states = (State("a", "a0", "x", zero), State("b", "b0", "a0", zero), State("c", "c0", "b0", zero))
    graph = step_graph([Node("Add", "sum", ("c0", "x"), ("y",))], {"x": 2}, ["y"], states)
    engine = Engine(graph)
    X = floats(1, 8, 2)
    found = Stream(engine).process(X)
    expected = X.copy()
    expected[3:] += X[:-3]
    np.testing.assert_array_equal(found, expected)
    plain = Interpreter(engine.plan)
    np.testing.assert_array_equal(np.stack([plain.step([x])[0] for x in X]), expected)


def test_a_state_swapped_with_another_is_not_lost() -> None:
    one, two = np.array([1.0], np.float32), np.array([2.0], np.float32)
    states = (State("a", "a0", "b0", one), State("b", "b0", "a0", two))
    engine = Engine(step_graph([Node("Add", "sum", ("a0", "x"), ("y",))], {"x": 1}, ["y"], states))
    found = Stream(engine).process(np.zeros((4, 1), np.float32))
    np.testing.assert_array_equal(np.ravel(found), [1, 2, 1, 2])


def test_an_output_may_be_a_states_old_value() -> None:
    states = (State("a", "a0", "x", np.array([7.0], np.float32)),)
    engine = Engine(step_graph([Node("Add", "sum", ("a0", "x"), ("y",))], {"x": 1}, ["y", "a0"], states))
    found = Stream(engine).process(np.array([[1], [2]], np.float32))
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["a0"].ravel(), [7, 1])
    np.testing.assert_array_equal(found["y"].ravel(), [8, 3])


def test_the_plan_prints_one_line_per_call_with_the_nodes_name() -> None:
    plan = make_plan(align(streamify(recurrent_clip(), {"x": 0})))
    assert len(plan.lines()) == len(plan.calls)
    assert plan.lines()[0].split()[1] == "cell:"


def test_a_sequence_graph_has_no_plan() -> None:
    with pytest.raises(GraphError, match="streamify"):
        make_plan(recurrent_clip())


def test_a_model_that_would_take_all_memory_is_refused_before_any_is_taken() -> None:
    huge = {"x": TensorType(DType.F32, (1 << 20, 1)), "z": TensorType(DType.F32, (1, 1 << 20))}
    graph = typed(Graph("g", Stage.STEP, ("x", "z"), ("y",), (Node("Add", "outer", ("x", "z"), ("y",)),), huge))
    with pytest.raises(UnsupportedError, match=r"'outer' \(Add\).*bytes"):
        make_plan(graph)
