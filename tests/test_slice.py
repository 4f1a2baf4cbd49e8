"""Slice keeps the contract of ops; along time it is a delay, the answer so far, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import DTYPES, SHAPES, Moves, calls, compiled, indices, numbers, plain

from streamrnn.errors import ShapeError
from streamrnn.ir.types import DType

BIG = np.iinfo(np.int64).max


def cut(
    x: tuple[int, ...],
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None = None,
    steps: tuple[int, ...] | None = None,
    time: int | None = None,
    refused: str = "",
) -> Case:
    inputs = (
        floats(1, *x), indices(*starts), indices(*ends), None if axes is None else indices(*axes),
        None if steps is None else indices(*steps),
    )  # fmt: skip
    while inputs[-1] is None:
        inputs = inputs[:-1]
    return Case(
        "Slice", inputs, time={} if time is None else {0: time}, refused=refused,
        label=f"Slice {x} {starts} to {ends} axes {axes} steps {steps} time {time}",
    )  # fmt: skip


class TestSlice(Moves):
    cases = [  # noqa: RUF012
        cut((5, 4), (1,), (3,)),
        cut((5, 4), (1, 0), (-1, BIG)),
        cut((5, 4), (-2,), (BIG,), (1,)),
        cut((5, 4), (-1,), (-BIG - 1,), (0,), (-1,)),
        cut((5, 4), (3, -1), (0, -6), (0, 1), (-2, -1)),
        cut((5, 4), (-100,), (100,), (0,), (3,)),
        cut((5, 4), (3,), (3,), (1,)),
        cut((2, 3, 4), (1, 2), (BIG, BIG), (-3, -1)),
        cut((1, 6, 4), (2,), (5,), (1,)),
        cut((2, 6, 4), (0,), (3,), None, None),
        cut((2, 3, 12, 4), (1,), (3,), (1,), time=2),
        cut((12, 3), (2,), (BIG,), (0,), time=0),
        cut((12, 3), (0,), (-2,), (0,), time=0),
        cut((12, 3), (1, 1), (-1, 3), (0, 1), time=0),
        cut((1, 3, 12), (3,), (BIG,), (2,), time=2),
        cut((1, 12, 3), (-1,), (BIG,), (1,), time=1),
        cut((1, 12, 3), (-1, 0), (BIG, 2), (1, 2), time=1),
        cut((12, 3), (0,), (5,), (0,), time=0, refused="frames 0 to 5"),
        cut((12, 3), (-4,), (BIG,), (0,), time=0, refused="last 4 frames"),
        cut((12, 3), (-1,), (-BIG,), (0,), (-1,), time=0, refused="reverses time"),
        cut((12, 3), (0,), (BIG,), (0,), (2,), time=0, refused="every 2th frame"),
    ]


@pytest.mark.parametrize(
    "node",
    [
        cut((5, 4), (1,), (3,)),
        cut((1, 6, 4), (2,), (5,), (1,)),
        cut((5, 4), (2, 1), (3, 3), (0, 1)),
        cut((5, 1, 4), (0,), (-BIG - 1,), (1,), (-1,)),
        cut((5, 4), (2,), (2,), (1,)),
    ],
    ids=str,
)
def test_one_run_of_memory_is_a_view(node: Case) -> None:
    assert calls(node) == 0


def test_frames_dropped_at_the_start_are_a_delay_and_no_work() -> None:
    graph = cut((12, 3), (2,), (BIG,), (0,), time=0).step_graph
    assert graph.streams["o0"].delay == 2
    assert "Slice" not in {node.op for node in graph.nodes}


def test_the_last_frame_is_the_answer_so_far() -> None:
    for start in (-1, 11):
        graph = cut((1, 12, 3), (start,), (BIG,), (1,), time=1).step_graph
        assert graph.streams["o0"].axis is None
        assert graph.types["o0"].shape == (1, 1, 3)


@given(SHAPES, DTYPES, st.data())
@settings(deadline=None, max_examples=100)
def test_any_slice_is_numpys(shape: tuple[int, ...], dtype: DType, data: st.DataObject) -> None:
    bound = st.integers(-6, 6) | st.sampled_from([BIG, -BIG, -BIG - 1])
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    rows = [(data.draw(bound), data.draw(bound), data.draw(st.integers(-3, 3).filter(bool))) for _ in axes]
    x = numbers(shape, dtype)
    expected = x
    for axis, (start, end, step) in zip(axes, rows, strict=True):
        expected = np.moveaxis(np.moveaxis(expected, axis, 0)[slice(start, end, step)], 0, axis)
    starts, ends, steps = (indices(*column) for column in zip(*rows, strict=True))
    (y,) = plain(Case("Slice", (x, starts, ends, indices(*axes), steps)))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype", DType)
def test_compiled_code_cuts_every_element_type(dtype: DType) -> None:
    x = numbers((6, 5, 3), dtype)
    (y,) = compiled(Case("Slice", (x, indices(5, 1), indices(-BIG, 4), indices(0, 1), indices(-2, 1))))
    np.testing.assert_array_equal(y, x[5::-2, 1:4])


def test_int32_parameters_are_taken_too() -> None:
    x = floats(1, 5, 4)
    starts, ends = np.array([1], np.int32), np.array([3], np.int32)
    np.testing.assert_array_equal(plain(Case("Slice", (x, starts, ends)))[0], x[1:3])


def test_parameters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ShapeError, match="step is 0"):
        cut((5, 4), (0,), (1,), (0,), (0,)).site()
    with pytest.raises(ShapeError, match="twice"):
        cut((5, 4), (0, 0), (1, 1), (0, -2)).site()
    with pytest.raises(ShapeError, match="2 starts, 1 ends"):
        cut((5, 4), (0, 0), (1,)).site()
