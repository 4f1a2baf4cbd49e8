"""Pad keeps the contract of ops; in front of the first frame it becomes remembered frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import DTYPES, SHAPES, Moves, calls, compiled, indices, numbers, plain

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.types import DType


def pad(
    x: tuple[int, ...],
    pads: tuple[int, ...],
    mode: str = "constant",
    value: float | None = None,
    axes: tuple[int, ...] | None = None,
    time: int | None = None,
    refused: str = "",
) -> Case:
    inputs = (
        floats(1, *x), indices(*pads), None if value is None else np.array(value, np.float32),
        None if axes is None else indices(*axes),
    )  # fmt: skip
    while inputs[-1] is None:
        inputs = inputs[:-1]
    return Case(
        "Pad", inputs, {"mode": mode}, time={} if time is None else {0: time}, refused=refused,
        label=f"Pad {x} {pads} {mode} {value} axes {axes} time {time}",
    )  # fmt: skip


def of_type(dtype: DType) -> Case:
    """A pad in front of time, which has to be remembered."""
    inputs = (numbers((2, 12, 3), dtype), indices(0, 3, 1, 0, 0, 0), np.array(1, dtype.numpy))
    return Case("Pad", inputs, time={0: 1}, onnx=False, label=f"Pad of {dtype.value}")


class TestPad(Moves):
    cases = [  # noqa: RUF012
        pad((3, 4), (1, 0, 2, 3)),
        pad((3, 4), (1, 0, 2, 3), value=-1.5),
        pad((3, 4), (2, 1), axes=(-1,)),
        pad((2, 3, 4, 5), (0, 0, 1, 2, 0, 0, 3, 1)),
        pad((2, 3, 4, 2, 3), (1, 1, 1, 1, 1, 0, 2, 0, 2, 0)),
        pad((3, 4), (0, 0, 0, 0)),
        pad((3, 4), (-1, 2, 0, -1)),
        pad((3, 4), (-1, -1, -1, 0)),
        pad((3, 4), (2, 1, 1, 3), "edge"),
        pad((3, 4), (2, 1, 1, 3), "reflect"),
        pad((3, 4), (2, 1, 1, 3), "wrap"),
        pad((2, 3, 4), (0, 0, 2, 0, 0, 1), "reflect"),
        pad((2, 12, 3), (1, 0, 0, 0, 0, 2), time=1),
        pad((2, 12, 3), (0, 0, 1, 0, 0, 1), "reflect", time=1),
        pad((1, 12, 3), (2, 0), axes=(1,), time=1),
        pad((1, 3, 12), (2, 1), value=0.5, axes=(2,), time=2),
        pad((12, 3), (3, 1, 0, 2), value=0.25, time=0),
        pad((12, 3), (-2, 0, 0, 0), time=0),
        pad((12, 3), (-2, 1, -1, 0), time=0),
        pad((12, 3), (0, 4), axes=(0,), time=0),
        pad((12, 3), (0, 2), "edge", axes=(0,), time=0),
        pad((12, 3), (3, 0), "edge", axes=(0,), time=0),
        pad((2, 12, 3), (0, 2, 1, 0, 1, 0), "edge", time=1),
        pad((12, 3), (2, 0), "reflect", axes=(0,), time=0, refused="needs later frames"),
        pad((12, 3), (1, 0), "wrap", axes=(0,), time=0, refused="needs later frames"),
        *(of_type(dtype) for dtype in (DType.I64, DType.F64, DType.I8, DType.BOOL)),
        Case("Pad", (numbers((3, 4), DType.I64), indices(1, 0, 2, 1), np.array((1 << 62) + 1)), live=(0, 2)),
        Case("Pad", (floats(1, 3, 12), indices(1, 0, 0, 0), np.array(2, np.float32)), live=(0, 2), time={0: 1}),
        Case(
            "Pad", (floats(1, 3, 12), indices(0, 1, 0, 0), np.array(2, np.float32)), live=(0, 2), time={0: 1},
            refused="computed at run time", label="a value in front of time that is known at run time alone",
        ),
    ]  # fmt: skip


def test_nothing_to_pad_is_a_view() -> None:
    assert calls(pad((3, 4), (0, 0, 0, 0))) == 0
    assert calls(pad((3, 4), (-1, 0, 0, 0))) == 0


@given(SHAPES, DTYPES, st.sampled_from(["constant", "edge", "reflect", "wrap"]), st.data())
@settings(deadline=None, max_examples=100)
def test_any_pad_is_numpys(shape: tuple[int, ...], dtype: DType, mode: Any, data: st.DataObject) -> None:
    width = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in shape]
    pads = indices(*(a for a, _ in width), *(b for _, b in width))
    x = numbers(shape, dtype)
    (y,) = plain(Case("Pad", (x, pads), {"mode": mode}))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, np.pad(x, width, mode))


@pytest.mark.parametrize("mode", ["constant", "edge"])
@pytest.mark.parametrize("dtype", DType)
def test_compiled_code_pads_every_element_type(dtype: DType, mode: Any) -> None:
    x = numbers((3, 4), dtype)
    (y,) = compiled(Case("Pad", (x, indices(1, 2, 0, 3)), {"mode": mode}))
    np.testing.assert_array_equal(y, np.pad(x, [(1, 0), (2, 3)], mode))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ShapeError, match="cuts 5 elements"):
        pad((4, 3), (-3, 0, -2, 0)).site()
    with pytest.raises(ShapeError, match="no elements to pad with"):
        pad((0, 3), (1, 0, 0, 0), "edge").site()
    with pytest.raises(ShapeError, match="3 pads for 2 axes"):
        pad((4, 3), (1, 0, 0)).site()
    with pytest.raises(UnsupportedError, match="mode 'mirror'"):
        pad((4, 3), (1, 0, 0, 0), "mirror").site()
    with pytest.raises(ShapeError, match="not one float32"):
        Case("Pad", (floats(1, 3), indices(1, 1), np.array(1))).site()
