"""Reductions, ArgMax, ArgMin and CumSum keep the contract of ops."""

from __future__ import annotations

import numpy as np
from contract import Case, Contract, floats

from streamrnn.ir.graph import Array
from streamrnn.ops.reduce import ROWS


def axes(*values: int) -> Array:
    return np.array(values, np.int64)


def positive(seed: int, *shape: int) -> Array:
    return np.abs(floats(seed, *shape)) + np.float32(0.5)


def integers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape)


def reductions(op: str) -> list[Case]:
    return [
        Case(op, (positive(1, 3, 37),), {"keepdims": 0}),
        Case(op, (positive(2, 2, 19, 21), axes(1))),
        Case(op, (positive(3, 2, 5, 3, 4), axes(-1, 1))),
        Case(op, (positive(4, 2, 5, 6), axes(0, 1)), {"keepdims": 0}, time={0: 2}),
        Case(op, (positive(5, 1, 6, 33), axes(2)), {"keepdims": 0}, time={0: 1}),
        Case(op, (positive(6, 1, 6, 3), axes(1)), time={0: 1}, refused="over time"),
        Case(op, (positive(7, 2, 3), axes()), {"noop_with_empty_axes": 1}, onnx=False),
    ]


class TestReduce(Contract):
    cases = [case for op in ROWS for case in reductions(op)]  # noqa: RUF012


class TestIntegers(Contract):
    cases = [  # noqa: RUF012
        *(Case(op, (integers(1, 3, 4, 5), axes(0, 2))) for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")),
        Case("ArgMax", (integers(2, 3, 4),), {"axis": 1}),
        Case("CumSum", (integers(3, 3, 4), np.array(1)), time={0: 1}),
    ]


class TestArg(Contract):
    cases = [  # noqa: RUF012
        *(
            case
            for op in ("ArgMax", "ArgMin")
            for case in (
                Case(op, (floats(1, 3, 40),), {"axis": -1, "keepdims": 0}, time={0: 0}),
                Case(op, (np.round(floats(2, 3, 40, 2)),), {"axis": 1, "keepdims": 0}, time={0: 2}),
                Case(op, (np.round(floats(3, 3, 40, 2)),), {"axis": 1, "select_last_index": 1}),
                Case(op, (floats(4, 3, 4),), {"axis": 0}, time={0: 0}, refused="over time"),
            )
        ),
    ]


class TestCumSum(Contract):
    cases = [  # noqa: RUF012
        Case("CumSum", (floats(1, 3, 9), np.array(1))),
        Case("CumSum", (floats(2, 3, 9, 2), np.array(-2)), {"exclusive": 1}, time={0: 1}),
        Case("CumSum", (floats(3, 3, 9, 2), np.array(-2)), {"reverse": 1}, time={0: 0}),
        Case("CumSum", (floats(4, 3, 9), np.array(1)), {"reverse": 1, "exclusive": 1}, time={0: 1}, refused="end of time"),
    ]
