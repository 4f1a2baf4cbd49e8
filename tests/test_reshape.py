"""Reshape, Squeeze, Unsqueeze and Flatten keep the contract of ops, and cost nothing."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import DTYPES, SHAPES, Moves, calls, indices, numbers, plain
from small import typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, Stream
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.types import DType, TensorType


def reshape(x: tuple[int, ...], target: tuple[int, ...], time: int | None = None, refused: str = "", **attrs: int) -> Case:
    return Case(
        "Reshape", (floats(1, *x), indices(*target)), attrs, time={} if time is None else {0: time}, refused=refused,
        label=f"Reshape {x} to {target} {attrs or ''} time {time}",
    )  # fmt: skip


def squeezing(op: str, x: tuple[int, ...], axes: tuple[int, ...] | None, time: int | None = None, refused: str = "") -> Case:
    inputs = (floats(1, *x),) if axes is None else (np.asarray(floats(1, *x)), indices(*axes))
    return Case(op, inputs, time={} if time is None else {0: time}, refused=refused, label=f"{op} {x} axes {axes} time {time}")


def flatten(x: tuple[int, ...], axis: int, time: int | None = None, refused: str = "") -> Case:
    return Case(
        "Flatten", (floats(1, *x),), {"axis": axis}, time={} if time is None else {0: time}, refused=refused,
        label=f"Flatten {x} axis {axis} time {time}",
    )  # fmt: skip


CASES = [
    reshape((2, 3, 4), (4, -1)),
    reshape((2, 3, 4), (0, 0, 2, 2)),
    reshape((2, 3, 4), (-1,)),
    reshape((1,), ()),
    reshape((0, 4), (0, 2, 2)),
    reshape((0, 4), (4, 0), allowzero=1),
    reshape((1, 12, 34), (12, 34), time=1),
    reshape((12, 34), (1, -1, 17, 2), time=0),
    reshape((2, 3, 12, 4), (6, 12, 2, 2), time=2),
    reshape((1, 12, 2, 3), (0, 0, -1), time=1),
    reshape((12, 4), (48,), time=0, refused="merges time"),
    reshape((2, 12, 4), (24, 4), time=1, refused="merges time"),
    reshape((2, 12), (4, 6), time=1, refused="cuts it"),
    reshape((12, 4), (2, 24), time=0, refused="cuts it"),
    reshape((1, 12), (1, 4, 3), time=1),
    reshape((12, 4), (6, 2, 4), time=0),
    reshape((12, 4), (3, 2, -1), time=0, refused="cuts it"),
    reshape((2, 12, 3), (2, 3, 2, 2, 3), time=1),
    squeezing("Squeeze", (1, 3, 1, 2), None),
    squeezing("Squeeze", (1, 3, 1, 2), (0, -2)),
    squeezing("Squeeze", (1, 12, 1, 2), None, time=1),
    squeezing("Squeeze", (12, 1, 3), (1,), time=0),
    squeezing("Squeeze", (1, 4), (0,), time=0, refused="drops the time axis"),
    squeezing("Unsqueeze", (3, 2), (0, -1)),
    squeezing("Unsqueeze", (), (0,)),
    squeezing("Unsqueeze", (12, 2), (0, 2), time=0),
    flatten((2, 3, 4), 1),
    flatten((2, 3, 4), 0),
    flatten((2, 3, 4), 3),
    flatten((2, 3, 4), -1),
    flatten((12, 3, 4), 1, time=0),
    flatten((1, 12, 4), 2, time=1),
    flatten((2, 12, 4), 2, time=1, refused="merges time"),
]


class TestReshape(Moves):
    cases = CASES


@pytest.mark.parametrize("node", CASES, ids=str)
def test_it_is_a_view_without_any_call(node: Case) -> None:
    assert calls(node) == 0


def grouped(delay: int) -> Graph:
    """x [1, 24] without its first `delay` frames, in groups of 4, each scaled, and then as single frames again."""
    constants = {
        "start": indices(delay), "end": indices(24 - (-delay % 4)), "axis": indices(1), "groups": indices(1, -1, 4),
        "scale": floats(3, 4), "flat": indices(1, -1),
    }  # fmt: skip
    nodes = (
        Node("Slice", "slice", ("x", "start", "end", "axis"), ("late",)),
        Node("Reshape", "group", ("late", "groups"), ("grouped",)),
        Node("Mul", "mul", ("grouped", "scale"), ("scaled",)),
        Node("Reshape", "flatten", ("scaled", "flat"), ("y",)),
    )
    types = {"x": TensorType(DType.F32, (1, 24))}
    return typed(Graph("groups", Stage.SEQUENCE, ("x",), ("y",), nodes, types, constants))


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_frames_in_groups_and_out_of_them_again(delay: int) -> None:
    """Groups begin where those of the clip begin, whatever the wire lags by."""
    engine = Engine(align(streamify(grouped(delay), {"x": 1})))
    x = floats(1, 24)
    found = np.asarray(Stream(engine).process(x.reshape(6, 4))).reshape(-1)
    (port,) = engine.plan.outputs
    assert port.stream is not None
    assert (engine.frames, port.stream.stride, port.stream.delay % 4) == (4, 1, 0)
    expected = x[delay : 24 - (-delay % 4)] * np.tile(floats(3, 4), 6)[: 24 - delay - (-delay % 4)]
    assert not found[: port.stream.delay].any()
    valid = found[port.stream.delay :][: len(expected)]
    np.testing.assert_array_equal(valid, expected[: len(valid)])
    assert engine.receptive_field == 4


def test_groups_in_step_with_the_clip_cost_nothing() -> None:
    engine = Engine(align(streamify(grouped(0), {"x": 1})))
    assert len(engine.plan.calls) == 1


@pytest.mark.parametrize("dtype", DType)
def test_every_element_type_passes_unchanged(dtype: DType) -> None:
    x = numbers((2, 3), dtype)
    (y,) = plain(Case("Reshape", (x, indices(3, 2))))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x.reshape(3, 2))


@given(SHAPES, DTYPES, st.data())
@settings(deadline=None, max_examples=60)
def test_any_reordering_of_factors_is_numpys_reshape(shape: tuple[int, ...], dtype: DType, data: st.DataObject) -> None:
    x = numbers(shape, dtype)
    target = data.draw(st.permutations(shape))
    hidden = data.draw(st.none() | st.integers(0, len(target) - 1))
    given_ = [-1 if d == hidden else n for d, n in enumerate(target)]
    (y,) = plain(Case("Reshape", (x, indices(*given_))))
    np.testing.assert_array_equal(y, x.reshape(target))


@pytest.mark.parametrize("target", [(-1, -1), (5,), (-2, 3), (0, 0, 0), (4, -1), (1 << 62, 4)])
def test_a_target_that_does_not_fit_is_refused(target: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="node"):
        reshape((2, 3), target).site()


def test_a_target_computed_at_run_time_is_refused_with_a_remedy() -> None:
    case = Case("Reshape", (floats(1, 2, 3), indices(6)), live=(0, 1))
    with pytest.raises(UnsupportedError, match="--bind"):
        case.site()


@pytest.mark.parametrize(("axes", "reason"), [((1,), "not of size 1"), ((0, -3), "twice"), ((3,), "out of range")])
def test_axes_that_cannot_be_squeezed_are_refused(axes: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        squeezing("Squeeze", (1, 2, 1), axes).site()
