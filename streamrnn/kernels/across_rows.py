"""Reductions, softmax and products of computed matrices across streams; parameters are those of `reduce`, `norm` and
`contract`, memory is that of `across_dense`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i64, kernel
from streamrnn.kernels.across_dense import from_lanes, to_lanes
from streamrnn.kernels.math import exp, log
from streamrnn.kernels.reduce import Combine, add, combine, finish, fold_columns, maximum, start, term, value
from streamrnn.kernels.simd import LANES, Vec, fma, splat

#: how a kernel reads an operand: `from_lanes` or `from_weights`
Operand: TypeAlias = Any

ZERO = np.float32(0)
ONE = np.float32(1)
LOWEST = np.float32(-np.inf)

#: how `products` reads its operands: interleaved, or `from_weights`; exchanged by `Kernel.bind`
read_a = from_lanes
read_b = from_lanes


@device
def reduced(function: Combine, each: Combine, begin: f32, n: i64, x: f32p, at: i64, step: i64, lanes: f32p) -> Vec:
    """n elements of x, `step` apart from `at` on, combined in the order of `reduce`."""
    for residue in range(LANES):
        acc = splat(begin)
        for k in range(residue, n, LANES):
            acc = function(acc, each(from_lanes(x, at + k * step)))
        to_lanes(lanes, residue, acc)
    fold_columns(function, lanes)
    return from_lanes(lanes, 0)


@kernel
def reduce_rows(outer: i64, n: i64, count: f32, x: f32p, y: f32p, lanes: f32p) -> None:
    """`reduce.reduce_rows` across streams."""
    for r in range(outer):
        to_lanes(y, r, finish(reduced(combine, term, start, n, x, r * n, 1, lanes), count))


@kernel
def reduce_columns(outer: i64, n: i64, inner: i64, count: f32, x: f32p, y: f32p, lanes: f32p) -> None:
    """`reduce.reduce_columns` across streams."""
    for r in range(outer):
        for i in range(inner):
            at = r * n * inner + i
            to_lanes(y, r * inner + i, finish(reduced(combine, term, start, n, x, at, inner, lanes), count))


@kernel
def softmax_rows(rows: i64, n: i64, logarithm: i64, x: f32p, y: f32p, lanes: f32p) -> None:
    """`norm.softmax_rows` across streams."""
    for r in range(rows):
        at = r * n
        top = reduced(maximum, value, LOWEST, n, x, at, 1, lanes)
        for k in range(at, at + n):
            to_lanes(y, k, exp(from_lanes(x, k) - top))
        total = reduced(add, value, ZERO, n, y, at, 1, lanes)
        if logarithm != 0:
            shift = log(total)
            for k in range(at, at + n):
                to_lanes(y, k, from_lanes(x, k) - top - shift)
        else:
            scale = ONE / total
            for k in range(at, at + n):
                to_lanes(y, k, from_lanes(y, k) * scale)


@device
def wide_sums(
    first: Operand, second: Operand, k: i64, at: i64, a_col: i64, o: i64, b_row: i64, a: f32p, b: f32p, y: f32p, to: i64
) -> None:
    """Four columns of `contract.wide_row`: the sum of each runs over p in order."""
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for p in range(k):
        v, here = first(a, at + p * a_col), o + p * b_row
        s0, s1 = fma(second(b, here), v, s0), fma(second(b, here + 1), v, s1)
        s2, s3 = fma(second(b, here + 2), v, s2), fma(second(b, here + 3), v, s3)
    to_lanes(y, to, s0)
    to_lanes(y, to + 1, s1)
    to_lanes(y, to + 2, s2)
    to_lanes(y, to + 3, s3)


@device
def narrow_sum(first: Operand, second: Operand, k: i64, at: i64, a_col: i64, o: i64, b_row: i64, a: f32p, b: f32p) -> Vec:
    """A column of `contract.narrow_row`: four runs over p modulo 4."""
    whole = k - k % 4
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for p in range(0, whole, 4):
        here, there = at + p * a_col, o + p * b_row
        s0 = fma(second(b, there), first(a, here), s0)
        s1 = fma(second(b, there + b_row), first(a, here + a_col), s1)
        s2 = fma(second(b, there + 2 * b_row), first(a, here + 2 * a_col), s2)
        s3 = fma(second(b, there + 3 * b_row), first(a, here + 3 * a_col), s3)
    for p in range(whole, k):
        s0 = fma(second(b, o + p * b_row), first(a, at + p * a_col), s0)
    return (s0 + s1) + (s2 + s3)


@kernel
def products(
    outer: i64, batch: i64, m: i64, k: i64, n: i64,
    a_outer: i64, a_batch: i64, a_row: i64, a_col: i64, b_outer: i64, b_batch: i64, b_row: i64,
    y_outer: i64, y_batch: i64, y_row: i64, a: f32p, b: f32p, y: f32p,
) -> None:  # fmt: skip
    """`contract.products` across streams."""
    wide = n - n % (4 * LANES)
    for rs in range(outer * batch):
        r, s = rs // batch, rs % batch
        for i in range(m):
            at, o = r * a_outer + s * a_batch + i * a_row, r * b_outer + s * b_batch
            to = r * y_outer + s * y_batch + i * y_row
            for j in range(0, wide, 4):
                wide_sums(read_a, read_b, k, at, a_col, o + j, b_row, a, b, y, to + j)
            for j in range(wide, n):
                to_lanes(y, to + j, narrow_sum(read_a, read_b, k, at, a_col, o + j, b_row, a, b))
