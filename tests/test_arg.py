"""ArgMax and ArgMin keep the contract of ops, for every element type that has an order; NaN is no extreme."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import compiled, plain

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType

NUMBERS = [dtype for dtype in DType if dtype is not DType.BOOL]


def ties(seed: int, *shape: int, dtype: DType = DType.F32) -> Array:
    """Small whole numbers, many of them equal."""
    return np.random.default_rng(seed).integers(0, 5, shape).astype(dtype.numpy)


class TestArg(Contract):
    cases = [  # noqa: RUF012
        case
        for op in ("ArgMax", "ArgMin")
        for case in (
            Case(op, (floats(1, 3, 40),), {"axis": -1, "keepdims": 0}, time={0: 0}),
            Case(op, (ties(2, 3, 40, 2),), {"axis": 1, "keepdims": 0}, time={0: 2}),
            Case(op, (ties(3, 3, 40, 2),), {"axis": 1, "select_last_index": 1}),
            Case(op, (ties(4, 3, 7, dtype=DType.I64),), {"axis": 1}),
            Case(op, (floats(5, 0, 3),), {"axis": 1}),
            Case(op, (floats(4, 3, 4),), {"axis": 0}, time={0: 0}, refused="over time"),
        )
    ]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_element_type_has_an_extreme(op: str, dtype: DType) -> None:
    x = ties(6, 4, 9, dtype=dtype)
    if dtype.numpy.kind != "u":
        x = (x - 2).astype(dtype.numpy)
    expected = (np.argmax if op == "ArgMax" else np.argmin)(x, axis=1)
    np.testing.assert_array_equal(compiled(Case(op, (x,), {"axis": 1, "keepdims": 0}))[0], expected)


@given(
    st.lists(st.sampled_from([1.0, 2.0, np.nan, -np.inf, np.inf]), min_size=1, max_size=7),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_nan_is_given_where_there_is_nothing_else(x: list[float], largest: bool, last: bool) -> None:
    case = Case("ArgMax" if largest else "ArgMin", (np.array(x, np.float32),), {"select_last_index": int(last)})
    numbers = [v for v in x if v == v]
    best = (max if largest else min)(numbers, default=np.nan)
    places = [i for i, v in enumerate(x) if v == best or not numbers]
    for (found,) in (plain(case), case.reference):
        assert found.item() == places[-1 if last else 0]


def test_what_has_no_extreme_is_refused() -> None:
    with pytest.raises(ShapeError, match="no elements"):
        Case("ArgMax", (floats(1, 3, 0),), {"axis": 1}).site()
    with pytest.raises(UnsupportedError, match="no order"):
        Case("ArgMin", (np.ones(3, bool),)).site()
