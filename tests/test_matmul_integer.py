"""MatMulInteger and QLinearMatMul keep the contract of ops; sums wrap around and are never cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from contract import Case, Contract, floats, onnxruntime_outputs
from moving import compiled

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ops._integer import packed


def q(seed: int, dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def one(value: float, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


PAIRS = [*itertools.product(("uint8", "int8"), ("uint8", "int8"))]


class TestMatMulInteger(Contract):
    cases = [  # noqa: RUF012
        *(
            Case(
                "MatMulInteger",
                (q(1, a, 5, 19), q(2, b, 19, 7), q(3, a), q(4, b)),
                time={0: 0},
                onnx=(a, b) != ("int8", "uint8"),
            )
            for a, b in PAIRS
        ),
        Case("MatMulInteger", (q(1, "uint8", 1, 4, 6), q(2, "int8", 6, 33)), time={0: 1}),
        Case("MatMulInteger", (q(1, "uint8", 3, 8), q(2, "int8", 8, 70), q(3, "uint8")), time={0: 0}),
        Case("MatMulInteger", (q(1, "uint8", 3, 6), q(2, "int8", 6, 5), q(3, "uint8"), q(4, "int8", 5)), time={0: 0}),
        Case("MatMulInteger", (q(1, "uint8", 3, 6), q(2, "int8", 6, 5), q(3, "uint8"), q(4, "int8", 5)), live=(0, 1, 2, 3)),
        # onnxruntime has one zero point for all rows of A
        Case("MatMulInteger", (q(1, "uint8", 3, 6), q(2, "int8", 6, 5), q(3, "uint8", 3)), onnx=False),
        Case("MatMulInteger", (q(1, "uint8", 2, 3, 6), q(2, "int8", 1, 6, 5), q(3, "uint8", 2, 3, 1)), live=(0, 1), onnx=False),
        Case("MatMulInteger", (q(1, "uint8", 2, 1, 3, 6), q(2, "int8", 3, 6, 5)), live=(0, 1)),
        Case("MatMulInteger", (q(1, "int8", 3, 6), q(2, "int8", 3, 6, 5)), time={0: 0}),
        Case("MatMulInteger", (q(1, "uint8", 6), q(2, "int8", 6, 5))),
        Case("MatMulInteger", (q(1, "uint8", 5, 6), q(2, "int8", 6))),
        Case("MatMulInteger", (q(1, "uint8", 5, 6), q(2, "int8", 6, 4)), time={0: 1}, refused="sums over time"),
        Case(
            "MatMulInteger",
            (q(1, "uint8", 3, 6), q(2, "int8", 6, 5), q(3, "uint8", 3)),
            time={0: 0},
            refused="input 2 differs from frame to frame",
            onnx=False,
        ),
    ]


def linear(a: Array, b: Array, b_scale: Array, b_zero: Array, y: str = "uint8", **more: object) -> Case:
    inputs = (a, one(0.02), q(8, a.dtype.name), b, b_scale, b_zero, one(0.9), q(9, y))
    return Case("QLinearMatMul", inputs, **more)  # type: ignore[arg-type]


class TestQLinearMatMul(Contract):
    cases = [  # noqa: RUF012
        *(
            linear(q(1, a, 5, 19), q(2, b, 19, 7), one(0.03), q(3, b), a, time={0: 0}, onnx=(a, b) != ("int8", "uint8"))
            for a, b in PAIRS
        ),
        linear(q(1, "uint8", 5, 19), q(2, "int8", 19, 7), np.abs(floats(4, 7, scale=0.03)), q(3, "int8", 7), time={0: 0}),
        linear(q(1, "uint8", 1, 5, 19), q(2, "int8", 19, 7), one(0.03), q(3, "int8"), time={0: 1}),
        linear(q(1, "uint8", 2, 5, 19), q(2, "int8", 2, 19, 7), one(0.03), q(3, "int8"), live=(0, 3)),
        linear(q(1, "int8", 3, 4), q(2, "int8", 4, 2), one(0.03), q(3, "int8"), "int8", live=tuple(range(8))),
        linear(q(1, "uint8", 5, 19), q(2, "int8", 19), one(0.03), q(3, "int8")),
        Case(
            "QLinearMatMul",
            (
                q(1, "uint8", 3, 4),
                np.abs(floats(2, 3)),
                q(3, "uint8", 3),
                q(4, "uint8", 4),
                one(0.1),
                q(5, "uint8"),
                one(9),
                q(6, "int8"),
            ),
            onnx=False,
        ),
    ]


def test_sums_of_int32_wrap_around() -> None:
    a, b = np.full((1, 70000), 255, np.uint8), np.full((70000, 2), 255, np.uint8)
    case = Case("MatMulInteger", (a, b), live=(0, 1))
    expected = np.array(70000 * 255 * 255, np.int64).astype(np.int32)
    np.testing.assert_array_equal(compiled(case)[0], np.full((1, 2), expected))
    np.testing.assert_array_equal(onnxruntime_outputs(case)[0], np.full((1, 2), expected))


@pytest.mark.parametrize("n_in", [1, 15, 16, 17, 64, 100])
def test_the_extremes_of_both_operands_are_exact(n_in: int) -> None:
    """255 * 255 and -128 * -128 in every place."""
    for kinds, (x, w) in itertools.product(PAIRS, itertools.product((0, 1), (0, 1))):
        a = np.full((2, n_in), (np.iinfo(kinds[0]).min, np.iinfo(kinds[0]).max)[x], kinds[0])
        b = np.full((n_in, 3), (np.iinfo(kinds[1]).min, np.iinfo(kinds[1]).max)[w], kinds[1])
        zeros = one(np.iinfo(kinds[0]).max, kinds[0]), one(np.iinfo(kinds[1]).min, kinds[1])
        for more in ((), zeros):
            found = compiled(Case("MatMulInteger", (a, b, *more)))[0]
            wide = [v.astype(np.int64) for v in (a, b, *more)]
            left, right = (wide[0] - wide[2], wide[1] - wide[3]) if more else wide
            np.testing.assert_array_equal(found, left @ right)


def test_weights_take_eight_bits_where_they_fit() -> None:
    assert packed(np.array([-128, 127])).dtype == np.int8
    assert packed(np.array([-128, 128])).dtype == np.int16
    assert packed(q(1, "uint8", 4).astype(np.int64) - 128).dtype == np.int8


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ((q(1, "int16", 2, 3), q(2, "int8", 3, 2)), UnsupportedError, "input 0 is int16; only int8 and uint8"),
        ((q(1, "int8", 2, 3), q(2, "int8", 3, 2), q(3, "uint8")), ShapeError, "input 0 is int8, its zero point uint8"),
        ((q(1, "int8", 2, 3), q(2, "int8", 2, 2)), ShapeError, "inner sizes 3 and 2"),
        ((q(1, "int8", 2, 3), q(2, "int8", 3, 4), q(3, "int8", 3)), ShapeError, "input 2 .* nor its rows"),
        ((q(1, "int8", 2, 3), q(2, "int8", 3, 4), q(3, "int8"), q(4, "int8", 3)), ShapeError, "input 3 .* nor its columns"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(inputs: tuple[Array, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=rf"node 'node' \(MatMulInteger\): .*{text}"):
        Case("MatMulInteger", inputs).site()
