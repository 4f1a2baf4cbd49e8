"""ConstantOfShape and Range keep the contract of ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, Contract
from moving import calls, indices

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.types import DType


def constant(shape: tuple[int, ...], value: Any, dtype: DType) -> Case:
    from onnx import helper

    tensor = helper.make_tensor("value", helper.np_dtype_to_tensor_dtype(dtype.numpy), [1], [value])
    return Case(
        "ConstantOfShape", (indices(*shape),), {"value": value, "dtype": dtype.value}, live=(), onnx_attrs={"value": tensor},
        label=f"ConstantOfShape {shape} {value} {dtype.value}",
    )  # fmt: skip


def ramp(start: Any, limit: Any, delta: Any, dtype: DType) -> Case:
    numbers = tuple(np.array(v, dtype.numpy) for v in (start, limit, delta))
    return Case("Range", numbers, live=(), label=f"Range {start} {limit} {delta} {dtype.value}")


class TestConstantOfShape(Contract):
    cases = [  # noqa: RUF012
        constant((2, 3), 1.5, DType.F32),
        constant((2, 3), -2.25, DType.F64),
        constant((), 7, DType.I64),
        constant((4,), (1 << 62) + 1, DType.I64),
        constant((4,), -3, DType.I32),
        constant((0, 3), 5, DType.I8),
        constant((5,), 200, DType.U8),
        constant((5,), 1, DType.BOOL),
    ]


class TestRange(Contract):
    cases = [  # noqa: RUF012
        ramp(0, 5, 1, DType.I64),
        ramp(10, 0, -3, DType.I64),
        ramp(3, 3, 1, DType.I64),
        ramp(5, 3, 1, DType.I32),
        ramp(0.0, 1.0, 0.25, DType.F32),
        ramp(0.1, 1.0, 0.1, DType.F32),
        ramp(1.0, -1.0, -0.3, DType.F64),
    ]


def test_without_attributes_it_is_float32_zero() -> None:
    (y,) = Case("ConstantOfShape", (indices(2),), live=()).reference
    assert y.dtype == np.float32
    assert not y.any()


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ShapeError, match="negative"):
        constant((2, -1), 1.0, DType.F32).site()
    with pytest.raises(UnsupportedError, match="bfloat16"):
        Case("ConstantOfShape", (indices(2),), {"value": 1.0, "dtype": "bfloat16"}, live=()).site()


@pytest.mark.parametrize("numbers", [(0.0, 1.0, 0.0), (0.0, np.nan, 1.0), (0.0, np.inf, 1.0)])
def test_ranges_that_never_end_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ShapeError, match="no range leads"):
        ramp(*numbers, DType.F32).site()


def test_the_numbers_of_a_range_have_one_type() -> None:
    with pytest.raises(ShapeError, match="one type"):
        Case("Range", (np.array(0), np.array(4, np.int32), np.array(1)), live=()).site()


def test_an_enormous_result_is_refused_before_any_memory_is_taken() -> None:
    with pytest.raises(UnsupportedError, match="bytes"):
        calls(constant((1 << 30, 1 << 30), 1.0, DType.F32))
    with pytest.raises(ShapeError, match="at most"):
        ramp(0, 1 << 60, 1, DType.I64).site()
