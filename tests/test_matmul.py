"""MatMul and Gemm keep the contract of ops."""

from __future__ import annotations

import numpy as np
from contract import Case, Contract, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import compiled

BOTH, ALL = (0, 1), (0, 1, 2)


class TestMatMul(Contract):
    cases = [  # noqa: RUF012
        Case("MatMul", (floats(1, 3, 20), floats(2, 20, 33)), time={0: 0}),
        Case("MatMul", (floats(1, 5, 20), floats(2, 20, 33)), live=BOTH, time={0: 0}),
        Case("MatMul", (floats(1, 2, 3, 5, 7), floats(2, 3, 7, 70)), live=BOTH, time={0: 2}),
        Case("MatMul", (floats(1, 2, 1, 5, 7), floats(2, 1, 3, 7, 4)), live=BOTH),
        Case("MatMul", (floats(1, 2, 1, 5, 7), floats(2, 1, 3, 7, 4))),
        Case("MatMul", (floats(1, 9, 9), floats(2, 6, 9, 5)), live=(1,), time={1: 0}),
        Case("MatMul", (floats(1, 2, 3, 17), floats(2, 17)), live=BOTH),
        Case("MatMul", (floats(1, 17), floats(2, 2, 17, 5)), live=BOTH, time={1: 0}),
        Case("MatMul", (floats(1, 17), floats(2, 17)), live=BOTH),
        Case("MatMul", (floats(1, 4, 0), floats(2, 0, 3)), live=BOTH, onnx=False),
        Case("MatMul", (floats(1, 3, 6), floats(2, 6, 5)), live=BOTH, time={0: 1}, refused="sums over time"),
        Case("MatMul", (floats(1, 3, 6), floats(2, 6, 5)), live=BOTH, time={1: 0}, refused="sums over time"),
    ]


class TestGemm(Contract):
    cases = [  # noqa: RUF012
        Case("Gemm", (floats(1, 3, 20), floats(2, 20, 33), floats(3, 33)), {"alpha": 0.5, "beta": 2.0}, time={0: 0}),
        Case("Gemm", (floats(1, 4, 20), floats(2, 33, 20), floats(3, 4, 33)), {"transB": 1}),
        *(
            Case("Gemm", (floats(1, *a), floats(2, *b), floats(3, 1, 9)), {"transA": ta, "transB": tb, "alpha": 1.5}, live=ALL)
            for ta, a in ((0, (4, 7)), (1, (7, 4)))
            for tb, b in ((0, (7, 9)), (1, (9, 7)))
        ),
        Case("Gemm", (floats(1, 20, 3), floats(2, 20, 33)), {"transA": 1}, live=BOTH, time={0: 1}),
        Case("Gemm", (floats(1, 3, 6), floats(2, 6, 5)), live=BOTH, time={0: 1}, refused="sums over time"),
    ]  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(m=st.integers(1, 5), k=st.integers(1, 40), n=st.integers(1, 140), turned=st.booleans())
def test_products_of_every_size_are_sums_of_products(m: int, k: int, n: int, turned: bool) -> None:
    a, b = floats(m, m, k), floats(n, *((n, k) if turned else (k, n)))
    (found,) = compiled(Case("Gemm", (a, b), {"transB": int(turned)}, live=BOTH))
    expected = a.astype(np.float64) @ (b.T if turned else b).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=4e-6)


def test_a_row_gives_the_same_bits_alone_and_among_others() -> None:
    a, b = floats(1, 5, 50), floats(2, 50, 100)
    (whole,) = compiled(Case("MatMul", (a, b), live=BOTH))
    for i in range(5):
        (alone,) = compiled(Case("MatMul", (a[i : i + 1], b), live=BOTH))
        np.testing.assert_array_equal(alone[0], whole[i])
