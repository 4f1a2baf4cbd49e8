"""Lanes across streams: the plan of a group of 16, and the kernels it is made of."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from contract import floats
from small import recurrent_clip, typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.narrow import narrow
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, StreamPool, UnsupportedError
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.graph import Array, Graph, Node, Stage
from streamrnn.ir.place import Place
from streamrnn.ir.types import DType, TensorType
from streamrnn.kernels.across import TABLE
from streamrnn.kernels.across_cells import ENOUGH
from streamrnn.kernels.simd import LANES
from streamrnn.lanes import across_streams
from streamrnn.plan import StepPlan
from streamrnn.planner import make_plan


def step_plan(op: str, shape: tuple[int, ...], *constants: Array | None, **attrs: int | str | tuple[int, ...]) -> StepPlan:
    """The plan of one node whose input 0 is fed."""
    names = ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    given = {n: c for n, c in zip(names, constants, strict=True) if c is not None}
    types = {"x": TensorType(DType.F32, shape)}
    return make_plan(
        typed(Graph("g", Stage.STEP, ("x",), ("y",), (Node(op, "node", ("x", *names), ("y",), attrs),), types, given))
    )


def recurrent_plan(op: str, n_in: int = 5, weights: str = "f32") -> StepPlan:
    return make_plan(narrow(align(streamify(recurrent_clip(op=op, hidden=19, n_in=n_in, n_out=3), {"x": 0})), weights))


def convolved_plan(frames: int, **attrs: tuple[int, ...]) -> StepPlan:
    """The plan of a convolution over time."""
    types = {"x": TensorType(DType.F32, (1, 2, 8))}
    node = Node("Conv", "conv", ("x", "K"), ("y",), attrs)
    graph = typed(Graph("g", Stage.SEQUENCE, ("x",), ("y",), (node,), types, {"K": floats(1, 3, 2, 3)}))
    return make_plan(align(streamify(graph, {"x": 2}, frames)))


PLANS = {
    "LSTM": recurrent_plan("LSTM"),
    "GRU": recurrent_plan("GRU"),
    "RNN": recurrent_plan("RNN"),
    "LSTM of many inputs": recurrent_plan("LSTM", ENOUGH + 1),
    "LSTM in float16": recurrent_plan("LSTM", weights="f16"),
    "GRU that resets first, in float16": recurrent_plan("GRU", weights="f16"),
    "LSTM both ways, frames and rows": step_plan(
        "LSTM", (3, 2, 4), floats(1, 2, 12, 4), floats(2, 2, 12, 3), floats(3, 2, 24), hidden_size=3, direction="bidirectional"
    ),
    "GRU that resets after the product": step_plan(
        "GRU", (2, 1, 4), floats(1, 1, 9, 4), floats(2, 1, 9, 3), floats(3, 1, 18), hidden_size=3, linear_before_reset=1
    ),
    "MatMul, rows and a rest of channels": step_plan("MatMul", (3, 7), floats(1, 7, 21)),
    "MatMul, more rows than channels": step_plan("MatMul", (6, 5), floats(1, 5, 3)),
    "Conv, few positions": step_plan("Conv", (1, 3, 6), floats(1, 18, 3, 3), floats(2, 18)),
    "Conv, many positions and channels of a rest": step_plan("Conv", (1, 2, 24), floats(1, 5, 2, 3), pads=(1, 1)),
    "Conv, depthwise": step_plan("Conv", (1, 17, 5), floats(1, 17, 1, 2), group=17),
    "Conv, strided": step_plan("Conv", (1, 3, 40), floats(1, 4, 3, 4), strides=(2,)),
    "Conv over time": convolved_plan(1, pads=(2, 0)),
    "Conv over time, looking ahead": convolved_plan(1, pads=(0, 2)),
    "Conv over time, four frames a step": convolved_plan(4, pads=(2, 0)),
    "Softmax": step_plan("Softmax", (2, 21)),
    "LogSoftmax": step_plan("LogSoftmax", (2, 5)),
    "ReduceMean, rows": step_plan("ReduceMean", (2, 21), np.array([1])),
    "ReduceSumSquare, columns": step_plan("ReduceSumSquare", (19, 3), np.array([0])),
    "LayerNormalization": step_plan("LayerNormalization", (2, 19), floats(1, 19), floats(2, 19)),
    "InstanceNormalization": step_plan("InstanceNormalization", (2, 3, 18), floats(1, 3), floats(2, 3)),
    "Transpose": step_plan("Transpose", (2, 3, 4), perm=(2, 0, 1)),
    "Add of a row": step_plan("Add", (4, 3), floats(1, 3)),
    "Gather": step_plan("Gather", (5, 3), np.array([4, 0]), axis=0),
}


def words(interpreter: Interpreter, place: Place, nbytes: int) -> Array:
    """What lies at a place of the arena, in words of 4 bytes."""
    _, offset = interpreter.plan.place(place)
    return interpreter.arena[offset : offset + nbytes].view(np.uint32)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("streams", [LANES, LANES // 2])
def test_each_lane_is_one_stream_in_plain_python(name: str, streams: int) -> None:
    plan = PLANS[name]
    group = across_streams(plan, eight=streams < LANES)
    together, alone = Interpreter(group), [Interpreter(plan) for _ in range(streams)]
    rng = np.random.default_rng(1)
    for own, wide in zip((*plan.inputs, *plan.states), (*group.inputs, *group.states), strict=True):
        for lane, single in enumerate(alone):
            values = rng.standard_normal(own.type.size).astype(np.float32)
            if own.type.dtype is DType.I64:  # where the oldest frame lies in a ring of two
                values = rng.integers(-1, 2, own.type.size)
            words(single, own.place, own.type.nbytes)[:] = values.view(np.uint32)
            words(together, wide.place, own.type.nbytes * LANES)[lane::LANES] = values.view(np.uint32)
    with np.errstate(all="ignore"):
        for interpreter in (together, *alone):
            interpreter.run_all((*interpreter.plan.calls, *interpreter.plan.commit))
    for own, wide in zip((*plan.outputs, *plan.states), (*group.outputs, *group.states), strict=True):
        found = words(together, wide.place, own.type.nbytes * LANES).reshape(-1, LANES)
        for lane, single in enumerate(alone):
            np.testing.assert_array_equal(found[:, lane], words(single, own.place, own.type.nbytes))


def test_counterparts_take_the_parameters_of_their_kernels() -> None:
    for function, across in TABLE.items():
        assert tuple(inspect.get_annotations(function))[:-1] == tuple(name for name, _ in across.kernel.params)
        assert {*across.either, *across.absent, *across.sizes} <= {name for name, _ in across.kernel.params}


def refusal(plan: StepPlan) -> str:
    with pytest.raises(UnsupportedError) as caught:
        across_streams(plan)
    return str(caught.value)


def test_what_has_no_lanes_is_said_with_the_node_and_the_reason() -> None:
    assert "'y' is int64; lanes hold float32" in refusal(step_plan("ArgMax", (1, 4), axis=1))
    assert "node 'node': kernel norm.hardmax has no counterpart across streams" in refusal(step_plan("Hardmax", (2, 4)))
    peepholes = (floats(1, 1, 12, 4), floats(2, 1, 12, 3), floats(3, 1, 24), None, None, None, floats(4, 1, 9))
    reason = refusal(step_plan("LSTM", (1, 1, 4), *peepholes, hidden_size=3))
    assert "node 'node': lstm across streams takes no use_peephole" in reason


def test_a_pool_says_which_way_it_goes_and_why() -> None:
    def arg(name: str) -> Engine:
        types = {"x": TensorType(DType.F32, (1, 4))}
        graph = Graph("g", Stage.STEP, ("x",), ("y",), (Node(name, "node", ("x",), ("y",), {"axis": 1}),), types, {})
        return Engine(typed(graph))

    softmax, best = arg("Softmax"), arg("ArgMax")
    assert StreamPool(softmax, 16).way == "16 slots to a vector"
    assert StreamPool(softmax, 2).way == "slot by slot: a pool of 2 leaves too many lanes empty"
    assert StreamPool(softmax, 16, lanes=False).way == "slot by slot: as asked for"
    assert "'y' is int64" in repr(StreamPool(best, 16))
    with pytest.raises(UnsupportedError, match="int64"):
        StreamPool(best, 16, lanes=True)
