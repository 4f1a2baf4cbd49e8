"""Reductions keep the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, floats

from streamrnn import Stream
from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType
from streamrnn.ops.reduce import ROWS


def axes(*values: int) -> Array:
    return np.array(values, np.int64)


def positive(seed: int, *shape: int) -> Array:
    return np.abs(floats(seed, *shape)) + np.float32(0.5)


def integers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape)


#: reductions of other numbers than float32
PLAIN = tuple(name for name, row in ROWS.items() if row.supports(DType.I64))


def reductions(op: str) -> list[Case]:
    return [
        Case(op, (positive(1, 3, 37),), {"keepdims": 0}),
        Case(op, (positive(2, 2, 19, 21), axes(1))),
        Case(op, (positive(3, 2, 5, 3, 4), axes(-1, 1))),
        Case(op, (positive(4, 2, 5, 6), axes(0, 1)), {"keepdims": 0}, time={0: 2}),
        Case(op, (positive(5, 1, 6, 33), axes(2)), {"keepdims": 0}, time={0: 1}),
        Case(op, (positive(6, 1, 6, 3), axes(1)), time={0: 1}, refused="over time"),
        Case(op, (positive(7, 2, 3), axes()), {"noop_with_empty_axes": 1}),
        Case(op, (positive(8, 1, 37, 2), axes(-1)), time={0: 1}),
    ]


class TestReduce(Contract):
    cases = [case for op in ROWS for case in reductions(op)]  # noqa: RUF012


class TestIntegers(Contract):
    cases = [  # noqa: RUF012
        *(Case(op, (integers(1, 3, 4, 5), axes(0, 2)), time={0: 1}) for op in PLAIN if op in ("ReduceSum", "ReduceMean")),
        *(Case(op, (integers(2, 3, 4, 5).astype(np.int32), axes(1))) for op in PLAIN),
        # onnxruntime has these for the types above, and the first and last for some more
        *(Case(op, (np.abs(integers(3, 4, 5)).astype("uint64"), axes(0)), onnx=False) for op in PLAIN),
        Case("ReduceMax", (integers(4, 3, 4).astype(np.int8), axes(0))),
        Case("ReduceMin", (integers(4, 3, 4).astype(np.uint8), axes(0))),
        *(Case(op, (integers(5, 3, 4) > 0, axes(1)), {"keepdims": 0}) for op in ("ReduceMax", "ReduceMin")),
    ]


class TestDouble(Contract):
    cases = [  # noqa: RUF012
        Case(op, (positive(1, 3, 4, 5).astype(np.float64), axes(0, 2)), time={0: 1}, onnx=op not in ("ReduceL1", "ReduceL2"))
        for op in ROWS
    ]


class TestNothing(Contract):
    cases = [  # noqa: RUF012
        *(Case(op, (floats(1, 2, 0, 4), axes(1)), onnx=op != "ReduceMean") for op in ROWS),
        Case("ReduceSum", (floats(1, 2, 0, 4), axes(2))),
        Case("ReduceMax", (floats(1, 2, 0) > 0, axes(1)), onnx=False),
        Case("ReduceMin", (integers(1, 2, 0).astype(np.int8), axes(1)), onnx=False),
    ]


def run(case: Case) -> Array:
    x = case.inputs[0]
    assert x is not None
    found = Stream(case.engine).step(x.reshape(case.engine.inputs["i0"].shape))
    assert isinstance(found, np.ndarray)
    return found.reshape(case.reference[0].shape)


@pytest.mark.parametrize("op", list(ROWS))
@pytest.mark.parametrize("n", [5, 37])
def test_a_row_has_the_same_bits_alone_and_among_neighbours(op: str, n: int) -> None:
    x = positive(1, n, 20)
    together = run(Case(op, (x, axes(0))))
    for c in range(x.shape[1]):
        np.testing.assert_array_equal(run(Case(op, (np.ascontiguousarray(x[:, c]), axes(0)))), together[:, c])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_sum_exp_does_not_overflow_and_knows_infinities(dtype: str) -> None:
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0], [-1000, -1001]], dtype)
    expected = np.logaddexp.reduce(x.astype(np.float64), axis=1)
    np.testing.assert_allclose(run(Case("ReduceLogSumExp", (x, axes(1)), {"keepdims": 0})), expected, rtol=1e-6)


def test_axes_that_are_computed_are_refused_with_the_remedy() -> None:
    with pytest.raises(UnsupportedError, match=r"axes .* is computed at run time.*--bind"):
        Case("ReduceSum", (floats(1, 2, 3), axes(1)), live=(0, 1)).site()


def test_means_of_integers_are_rounded_toward_zero() -> None:
    x = np.array([[-1, -2], [1, 2], [-3, -3], [7, 0], [-7, 0]])
    assert run(Case("ReduceMean", (x, axes(1)), {"keepdims": 0})).tolist() == [-1, 1, -3, 3, -3]


def test_sums_of_integers_wrap_around_in_their_own_width() -> None:
    x = np.full((2, 3), 100, np.int8)
    np.testing.assert_array_equal(run(Case("ReduceSum", (x, axes(0, 1)), {"keepdims": 0})), np.array(600 - 512, np.int8))


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceLogSumExp"])
def test_an_element_type_without_kernel_is_refused(op: str) -> None:
    with pytest.raises(UnsupportedError, match="int64 is not supported"):
        Case(op, (integers(1, 2, 3), axes(1))).site()
