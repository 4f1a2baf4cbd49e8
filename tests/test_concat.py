"""Concat keeps the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import Moves, calls, compiled, numbers
from streamrnn_converters.passes.streamify import streamify

from streamrnn.errors import NotStreamableError, ShapeError
from streamrnn.ir.graph import Stage
from streamrnn.ir.types import DType


def concat(axis: int, *shapes: tuple[int, ...], time: int | None = None, live: int = 0, refused: str = "") -> Case:
    """The first `live` inputs (all where 0) are fed at run time."""
    count = live or len(shapes)
    inputs = tuple(floats(i, *shape) for i, shape in enumerate(shapes))
    times = {} if time is None else {i: time for i in range(count)}
    return Case(
        "Concat", inputs, {"axis": axis}, live=tuple(range(count)), time=times, refused=refused,
        label=f"Concat axis {axis} {shapes} live {count} time {time}",
    )  # fmt: skip


class TestConcat(Moves):
    cases = [  # noqa: RUF012
        concat(0, (2, 3), (4, 3)),
        concat(1, (2, 3), (2, 1), (2, 5)),
        concat(-1, (2, 3, 4), (2, 3, 1)),
        concat(1, (2, 3, 4), (2, 0, 4), (2, 2, 4)),
        concat(1, (1, 3, 4), (1, 2, 4)),
        concat(0, (3,)),
        concat(1, (2, 3), (2, 2), live=1),
        concat(2, (1, 12, 3), (1, 12, 2), time=1),
        concat(1, (1, 2, 12, 3), (1, 1, 12, 3), time=2),
        concat(0, (1, 12, 3), (1, 12, 3), time=1),
        concat(1, (12, 3), (12, 3), time=1, refused="in front of or behind"),
        concat(1, (12, 3), (12, 2), time=0, live=1, refused="differs from frame to frame"),
    ]


class TestConcatWithAConstant(Contract):
    """A constant beside a stream keeps one frame, so these cases have steps of one frame."""

    cases = [  # noqa: RUF012
        Case(
            "Concat", (floats(1, 12, 3), np.ones((12, 2), np.float32)), {"axis": 1}, time={0: 0}, label="Concat a fixed frame"
        ),
    ]


def test_a_constant_beside_a_stream_of_several_frames_a_step_is_refused() -> None:
    (case,) = TestConcatWithAConstant.cases
    with pytest.raises(NotStreamableError, match="those of a step"):
        streamify(case.graph(Stage.SEQUENCE), {"i0": 0}, chunk=3)


@pytest.mark.parametrize("dtype", DType)
def test_compiled_code_joins_every_element_type(dtype: DType) -> None:
    a, b = numbers((3, 2, 5), dtype), numbers((3, 4, 5), dtype)
    (y,) = compiled(Case("Concat", (a, b), {"axis": 1}, live=(0, 1)))
    np.testing.assert_array_equal(y, np.concatenate([a, b], 1))


def test_one_input_is_a_view() -> None:
    assert calls(concat(0, (3, 2))) == 0


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((2, 3), (2, 3, 1))])
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ShapeError, match="do not fit together"):
        concat(1, *shapes).site()


def test_element_types_may_not_differ() -> None:
    with pytest.raises(ShapeError, match="do not fit together"):
        Case("Concat", (numbers((2,)), numbers((2,), DType.I64)), {"axis": 0}, live=(0, 1)).site()
