"""MatMul and Gemm keep the contract of ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, Contract, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import compiled

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array

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


def whole(seed: int, *shape: int, dtype: str = "int64") -> Array:
    """Integers, small enough that their products are exact in every type."""
    return np.random.default_rng(seed).integers(0, 9, shape).astype(dtype)


def fused(a: Array, b: Array, **more: Any) -> Case:
    attrs = {key: more.pop(key) for key in ("transA", "transB", "transBatchA", "transBatchB", "alpha") if key in more}
    return Case("FusedMatMul", (a, b), attrs, domain="com.microsoft", **more)


class TestFusedMatMul(Contract):
    cases = [  # noqa: RUF012
        fused(floats(1, 3, 20), floats(2, 20, 33), alpha=0.25, time={0: 0}),
        fused(floats(1, 3, 20), floats(2, 33, 20), transB=1, time={0: 0}),
        fused(floats(1, 20, 3), floats(2, 20, 33), transA=1, alpha=-2.0, time={0: 1}),
        fused(floats(1, 20, 3), floats(2, 20, 33), transA=1, time={0: 0}, refused="sums over time"),
        fused(floats(1, 2, 5, 7), floats(2, 2, 9, 7), transB=1, alpha=0.3, live=BOTH),
        fused(floats(1, 2, 7, 5), floats(2, 9, 7), transA=1, transB=1, live=BOTH, time={0: 2}),
        fused(floats(1, 5, 2, 3, 7), floats(2, 2, 3, 7, 4), transBatchA=1, live=BOTH, time={0: 0}),
        fused(floats(1, 7, 2, 3, 5), floats(2, 4, 2, 3, 7), transBatchA=1, transA=1, transBatchB=1, transB=1, live=BOTH),
        fused(floats(1, 17), floats(2, 17, 5), live=BOTH),
    ]


class TestElementTypes(Contract):
    cases = [  # noqa: RUF012
        *(Case("MatMul", (whole(1, 3, 4, dtype=t), whole(2, 4, 5, dtype=t)), live=BOTH) for t in ("int32", "uint32", "uint64")),
        Case("MatMul", (whole(1, 3, 4), whole(2, 4, 5)), time={0: 0}),
        Case("MatMul", (whole(1, 3, 4, dtype="float64"), whole(2, 2, 4, 5, dtype="float64")), live=BOTH),
        Case("Gemm", (whole(1, 3, 4), whole(2, 5, 4), whole(3, 5)), {"transB": 1}, live=ALL, onnx=False),
        Case("Gemm", (floats(1, 3, 4).astype("float64"), floats(2, 4, 5).astype("float64")), {"alpha": 0.5}, live=BOTH),
    ]


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (Case("MatMul", (whole(1, 3, 4), floats(2, 4, 5))), "int64.3, 4. times float32.4, 5.; only tensors of one type"),
        (Case("MatMul", (floats(1, 3, 4) > 0, floats(2, 4, 5) > 0)), "bool.3, 4. times"),
        (Case("Gemm", (whole(1, 3, 4), whole(2, 4, 5)), {"alpha": 0.5}), "alpha and beta before integers"),
        (Case("FusedMatMul", (whole(1, 3, 4), whole(2, 4, 5)), {"alpha": 0.5}), "a factor before integers"),
    ],
    ids=str,
)
def test_element_types_without_a_product_are_refused(example: Case, text: str) -> None:
    with pytest.raises(UnsupportedError, match=f"node 'node'.*{text}"):
        example.site()


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
