"""CumSum and CumProd keep the contract of ops; over time they remember what has run up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, floats
from moving import Moves, compiled

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType


def run_up(op: str, x: Array, axis: int, time: int | None = None, refused: str = "", **attrs: int) -> Case:
    # onnxruntime gets an opset that has no CumProd
    return Case(
        op, (x, np.array(axis)), attrs, time={} if time is None else {0: time}, refused=refused,
        onnx=op == "CumSum" and x.dtype != np.float16, label=f"{op} {x.dtype}{list(x.shape)} {axis} {attrs} time {time}",
    )  # fmt: skip


class TestCumulate(Moves):
    cases = [  # noqa: RUF012
        case
        for op in ("CumSum", "CumProd")
        for case in (
            run_up(op, floats(1, 3, 9), 1),
            run_up(op, floats(2, 3, 9, 2), -2, exclusive=1, time=1),
            run_up(op, floats(3, 3, 9, 2), -2, reverse=1, time=0),
            run_up(op, floats(4, 3, 9), 1, reverse=1, exclusive=1),
            run_up(op, floats(4, 9).astype(np.float64), 0),
            run_up(op, np.random.default_rng(5).integers(1, 4, (3, 9)), 1, time=1),
            run_up(op, np.random.default_rng(5).integers(1, 4, (3, 9)).astype(np.int32), 0, exclusive=1),
            run_up(op, floats(6, 0, 3), 1),
            run_up(op, floats(4, 3, 9), 1, reverse=1, time=1, refused="end of time"),
        )
    ]


@pytest.mark.parametrize(("op", "numpy"), [("CumSum", np.cumsum), ("CumProd", np.cumprod)])
@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.BOOL])
def test_every_element_type_runs_up(op: str, numpy: Any, dtype: DType) -> None:
    """Integers wrap around; float16 is rounded once, at the end."""
    x = np.array([[3, 100, 2, 7], [1, 5, 50, 9]]).astype(dtype.numpy)
    wide = np.float64 if dtype.is_float else dtype.numpy
    with np.errstate(over="ignore"):
        expected = numpy(x, axis=1, dtype=wide).astype(dtype.numpy)
    np.testing.assert_array_equal(compiled(run_up(op, x, 1))[0], expected)


def test_truth_values_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="bool is not supported"):
        run_up("CumSum", np.ones(3, bool), 0).site()
