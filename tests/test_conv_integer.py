"""ConvInteger and QLinearConv keep the contract of ops: groups, dilations, paddings, zero points, one and two dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import compiled

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Attr


def q(seed: int, dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def one(value: float, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


X, W = q(1, "uint8", 1, 4, 12), q(2, "int8", 6, 4, 3)
ZERO = one(113, "uint8")


def conv(x: Array, w: Array, *zeros: Array, **more: object) -> Case:
    return Case("ConvInteger", (x, w, *zeros), **more)  # type: ignore[arg-type]


class TestConvInteger(Contract):
    cases = [  # noqa: RUF012
        conv(X, W, ZERO, time={0: 2}),
        conv(X, W, time={0: 2}),
        # onnxruntime takes uint8 weights beside uint8 inputs, and int8 ones
        conv(X, q(2, "uint8", 6, 4, 3), ZERO, one(7, "uint8"), attrs={"pads": (1, 1)}, time={0: 2}),
        conv(q(1, "int8", 1, 4, 12), W, one(-3, "int8"), attrs={"pads": (2, 0), "dilations": (2,)}, time={0: 2}),
        conv(X, q(2, "int8", 6, 2, 3), ZERO, attrs={"group": 2, "strides": (2,), "pads": (1, 0)}, time={0: 2}),
        conv(X, q(2, "int8", 4, 1, 3), ZERO, q(3, "int8", 4), attrs={"group": 4}, time={0: 2}, onnx=False),
        conv(q(1, "int8", 1, 4, 12), q(2, "int8", 8, 1, 3), one(-3, "int8"), attrs={"group": 4, "pads": (2, 0)}, time={0: 2}),
        conv(q(4, "int8", 1, 3, 7, 19), q(5, "int8", 3, 1, 2, 3), one(9, "int8"), attrs={"group": 3, "pads": (1, 1, 0, 1)}),
        conv(X, W, ZERO, q(3, "int8", 6), live=(0, 1, 2, 3), onnx=False),
        conv(q(4, "uint8", 2, 3, 7, 9), q(5, "int8", 5, 3, 2, 3), ZERO, attrs={"pads": (1, 0, 0, 2), "strides": (2, 1)}),
        conv(q(4, "uint8", 1, 3, 7, 9), q(5, "int8", 5, 3, 2, 3), ZERO, attrs={"pads": (1, 1, 0, 1)}, time={0: 2}),
        conv(q(4, "uint8", 1, 3, 7, 9), q(5, "int8", 5, 3, 2, 3), ZERO, attrs={"auto_pad": "SAME_UPPER"}, time={0: 3}),
        conv(q(6, "uint8", 5, 4, 1), q(7, "int8", 3, 4, 1), ZERO, time={0: 0}),
        conv(X, W, ZERO, time={0: 1}, refused="input channels"),
        conv(X, W, ZERO, live=(0, 2), time={0: 2}, refused="whose zero point is computed"),
    ]


def linear(x: Array, w: Array, w_scale: Array, w_zero: Array, y: str, *bias: Array, **more: object) -> Case:
    inputs = (x, one(0.021), q(8, x.dtype.name), w, w_scale, w_zero, one(0.37), q(9, y), *bias)
    return Case("QLinearConv", inputs, **more)  # type: ignore[arg-type]


def bias(n: int) -> Array:
    return np.random.default_rng(10).integers(-9000, 9000, n).astype(np.int32)


def small(n: int) -> Array:
    return np.abs(floats(11, n, scale=0.01)) + np.float32(0.002)


_2D: dict[str, Attr] = {"pads": (1, 0, 1, 2), "dilations": (1, 2)}


class TestQLinearConv(Contract):
    cases = [  # noqa: RUF012
        linear(X, W, one(0.011), one(0, "int8"), "uint8", bias(6), time={0: 2}),
        linear(X, W, small(6), np.zeros(6, np.int8), "uint8", bias(6), attrs={"pads": (1, 1)}, time={0: 2}),
        linear(X, q(2, "uint8", 6, 4, 3), one(0.011), one(99, "uint8"), "uint8", attrs={"pads": (2, 0)}, time={0: 2}),
        linear(
            q(1, "int8", 1, 4, 12), W, small(6), np.zeros(6, np.int8), "int8", bias(6), attrs={"strides": (2,)}, time={0: 2}
        ),
        linear(X, q(2, "int8", 4, 1, 3), small(4), np.zeros(4, np.int8), "uint8", attrs={"group": 4}, time={0: 2}),
        linear(
            q(4, "uint8", 2, 4, 7, 9),
            q(5, "int8", 6, 2, 2, 3),
            small(6),
            np.zeros(6, np.int8),
            "uint8",
            attrs={**_2D, "group": 2},
        ),
        linear(q(4, "uint8", 1, 3, 7, 9), q(5, "int8", 5, 3, 2, 3), one(0.01), one(0, "int8"), "uint8", bias(5), time={0: 2}),
        linear(X, W, one(0.011), one(0, "int8"), "uint8", bias(6), live=tuple(range(9))),
    ]


def test_what_pads_is_the_zero_point() -> None:
    x, w = np.full((1, 1, 3), 113, np.uint8), np.full((1, 1, 3), 5, np.int8)
    [found] = compiled(conv(x, w, ZERO, attrs={"pads": (2, 2)}))
    assert not found.any()


@pytest.mark.parametrize(
    ("example", "error", "text"),
    [
        (conv(X.astype(np.int32), W), UnsupportedError, "input 0 is int32; only int8 and uint8"),
        (conv(X, W[:, :3]), ShapeError, "does not fit 4 channels"),
        (conv(X, W, q(1, "uint8", 4)), ShapeError, "zero point of X .* single number"),
        (conv(X, W, ZERO, q(1, "int8", 4)), ShapeError, "input 3 .* have 6 elements"),
        (linear(X, W, one(0.01), one(0, "int8"), "uint8", bias(5)), ShapeError, "B int32.5. should be int32.6."),
        (linear(X, W, one(0.01, "float64"), one(0, "int8"), "uint8"), UnsupportedError, "scale .* is float64"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(example: Case, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"node 'node'.*{text}"):
        example.site()


def test_three_dimensions_are_refused_where_they_are_compiled() -> None:
    example = conv(q(1, "uint8", 1, 1, 3, 3, 3), q(2, "int8", 1, 1, 2, 2, 2))
    assert example.reference[0].shape == (1, 1, 2, 2, 2)
    with pytest.raises(UnsupportedError, match="3 spatial dimensions"):
        _ = example.engine
