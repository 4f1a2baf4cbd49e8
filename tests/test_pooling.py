"""Pools keep the contract of ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import compiled

from streamrnn.errors import ShapeError, UnsupportedError


class TestMaxPool(Contract):
    cases = [  # noqa: RUF012
        Case("MaxPool", (floats(1, 1, 3, 12) - 3,), {"kernel_shape": (3,), "pads": (1, 1)}, time={0: 2}),
        Case("MaxPool", (floats(2, 1, 3, 12),), {"kernel_shape": (2,), "strides": (2,), "dilations": (2,)}, time={0: 2}),
        Case(
            "MaxPool",
            (-np.arange(1, 37, dtype=np.int8).reshape(1, 3, 12),),
            {"kernel_shape": (3,), "pads": (2, 0)},
            time={0: 2},
        ),
        Case("MaxPool", (floats(3, 2, 3, 11),), {"kernel_shape": (3,), "strides": (2,), "ceil_mode": 1, "pads": (1, 1)}),
        Case(
            "MaxPool",
            (floats(4, 1, 2, 6, 8),),
            {"kernel_shape": (2, 3), "strides": (1, 2), "auto_pad": "SAME_UPPER"},
            time={0: 2},
        ),
        Case("MaxPool", (floats(4, 1, 2, 6, 8),), {"kernel_shape": (2, 3), "pads": (1, 0, 0, 1)}, time={0: 3}),
        Case(
            "MaxPool",
            (floats(5, 1, 2, 6),),
            {"kernel_shape": (3,), "strides": (2,), "auto_pad": "SAME_UPPER"},
            time={0: 2},
            refused="SAME",
        ),
    ]


class TestAveragePool(Contract):
    cases = [  # noqa: RUF012
        Case("AveragePool", (floats(1, 1, 3, 12),), {"kernel_shape": (3,)}, time={0: 2}),
        Case(
            "AveragePool",
            (floats(1, 1, 3, 12),),
            {"kernel_shape": (4,), "pads": (1, 2), "strides": (2,), "count_include_pad": 1},
            time={0: 2},
        ),
        Case(
            "AveragePool",
            (floats(2, 1, 3, 12),),
            {"kernel_shape": (3,), "pads": (1, 1)},
            time={0: 2},
            refused="ends of the clip",
        ),
        Case("AveragePool", (floats(3, 2, 3, 11),), {"kernel_shape": (4,), "strides": (3,), "ceil_mode": 1}),
        Case("AveragePool", (floats(4, 1, 2, 6, 8),), {"kernel_shape": (2, 3), "pads": (1, 0, 0, 1), "count_include_pad": 1}),
        Case("AveragePool", (floats(4, 1, 2, 6, 8),), {"kernel_shape": (2, 3), "pads": (0, 1, 0, 1)}, time={0: 2}),
    ]


class TestLpPool(Contract):
    cases = [  # noqa: RUF012
        *(
            Case("LpPool", (floats(p, 1, 3, 12),), {"kernel_shape": (3,), "pads": (1, 1), "p": p}, time={0: 2})
            for p in (1, 2, 3)
        ),
        Case("LpPool", (floats(4, 2, 2, 6, 8),), {"kernel_shape": (2, 3), "strides": (1, 2), "dilations": (2, 1)}, time={0: 3}),
        Case("LpPool", (floats(4, 2, 2, 7, 8),), {"kernel_shape": (3, 3), "auto_pad": "SAME_LOWER", "strides": (2, 2)}),
    ]


class TestThreeDimensions(Contract):
    cases = [  # noqa: RUF012
        Case(op, (floats(1, 1, 2, 5, 6, 7),), {"kernel_shape": (2, 3, 2), "strides": (2, 1, 2), "pads": (1, 0, 0, 0, 1, 1)})
        for op in ("MaxPool", "AveragePool", "LpPool")
    ]


class TestIndices(Contract):
    cases = [  # noqa: RUF012
        *(
            Case("MaxPool", (floats(1, 2, 3, *size),), {"kernel_shape": kernel, "storage_order": order, **more}, outputs=2)
            for size, kernel in (((9,), (3,)), ((6, 7), (2, 3)), ((4, 5, 6), (2, 2, 3)))
            for order, more in ((0, {"strides": (2,) * len(size)}), (1, {"pads": (1, *(0,) * (2 * len(size) - 1))}))
        ),
        Case("MaxPool", (np.ones((1, 1, 4, 4), np.float32),), {"kernel_shape": (2, 2)}, outputs=2),
        Case("MaxPool", (np.arange(30, dtype=np.uint8).reshape(1, 1, 5, 6)[..., ::-1].copy(),), {"kernel_shape": (2, 3)}),
        Case(
            "MaxPool", (np.arange(-30, 30, dtype=np.int8).reshape(1, 2, 5, 6),), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
        ),
        Case("MaxPool", (floats(1, 1, 2, 8),), {"kernel_shape": (2,)}, outputs=2, time={0: 2}, refused="whole clip"),
    ]


def unpooled(shape: tuple[int, ...], indices: list[int], **more: Any) -> Case:
    at = np.array(indices).reshape(shape)
    return Case("MaxUnpool", (floats(1, *shape), at), {"kernel_shape": (2, 2), "strides": (2, 2)}, live=(0, 1), **more)


class TestMaxUnpool(Contract):
    cases = [  # noqa: RUF012
        unpooled((1, 1, 2, 2), [5, 7, 13, 15]),
        unpooled((1, 2, 2, 2), [0, 3, 9, 14, 17, 22, 24, 30], time={0: 2}, refused="whole clip"),
        Case(
            "MaxUnpool", (floats(1, 1, 1, 2, 2), np.array([6, 8, 16, 18]).reshape(1, 1, 2, 2), np.array([1, 1, 5, 5])),
            {"kernel_shape": (2, 2), "strides": (2, 2)},
        ),
        unpooled((1, 1, 1, 2), [-1, 99], onnx=False),
    ]  # fmt: skip


def test_what_is_not_a_number_is_passed_over() -> None:
    x = np.array([[[np.nan, 1, np.nan, np.nan, -np.inf, np.nan]]], np.float32)
    values, where = compiled(Case("MaxPool", (x,), {"kernel_shape": (2,), "strides": (2,)}, outputs=2))
    np.testing.assert_array_equal(values, [[[1, -np.inf, -np.inf]]])
    np.testing.assert_array_equal(where, [[[1, 0, 4]]])


@pytest.mark.parametrize(
    ("bad", "error", "reason"),
    [
        (Case("AveragePool", (floats(1, 1, 2, 6),), {"kernel_shape": (2,), "pads": (2, 0)}), ShapeError, "as large as"),
        (Case("MaxPool", (np.zeros((1, 1, 4), np.int64),), {"kernel_shape": (2,)}), UnsupportedError, "int64"),
        (Case("LpPool", (floats(1, 1, 2, 6),), {"kernel_shape": (2,), "p": 0}), UnsupportedError, "p 0"),
        (
            Case("MaxPool", (np.zeros((1, 1, 1000, 1000), np.float32),), {"kernel_shape": (500, 500)}),
            UnsupportedError,
            "meet more than",
        ),
        (Case("MaxUnpool", (floats(1, 1, 1, 2), np.zeros((1, 1, 3), np.int64)), {"kernel_shape": (2,)}), ShapeError, "indices"),
    ],
)
def test_what_cannot_be_pooled_is_refused(bad: Case, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        bad.site()


class TestGlobalPool(Contract):
    cases = [  # noqa: RUF012
        # onnxruntime has none of the newest opsets
        *(Case("GlobalLpPool", (floats(p, 2, 3, 5, 7),), {"p": p}, time={0: 1}, onnx=False) for p in (1, 2, 3)),
        *(
            Case(op, (floats(1, *shape),), time=time, refused=refused)
            for op in ("GlobalMaxPool", "GlobalAveragePool")
            for shape, time, refused in (((2, 3, 33), {}, ""), ((5, 3, 4, 2), {0: 0}, ""), ((1, 3, 9), {0: 2}, "over time"))
        ),
    ]
