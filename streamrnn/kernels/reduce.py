"""Reductions of x [outer][n][inner] over n.

A sum over n has one order wherever the axis lies: sixteen partial sums over k modulo 16, then added in halves, (8 + 8),
(4 + 4), (2 + 2), (1 + 1). Rows (inner = 1) keep the partial sums in the lanes of a vector, columns (inner > 1) compute them one
after the other for sixteen neighbouring columns.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import b1, device, f32, f32p, f64, i64, i64p, kernel, u64
from streamrnn.kernels.double import log as log_of_double
from streamrnn.kernels.double import sqrt as sqrt_of_double
from streamrnn.kernels.math import exp, log
from streamrnn.kernels.simd import LANES, Real, above, below, copysign, load_lanes, splat, sqrt, vload, vstore

ZERO = np.float32(0)
ONE = np.float32(1)
INF = np.float32(np.inf)

#: a device function of two operands
Combine: TypeAlias = Any


@device
def add(a: Real, b: Real) -> Real:
    return a + b


@device
def multiply(a: Real, b: Real) -> Real:
    return a * b


@device
def maximum(a: Real, b: Real) -> Real:
    """The larger one; a NaN in b is passed over."""
    return above(a, b)


@device
def minimum(a: Real, b: Real) -> Real:
    """The smaller one; a NaN in b is passed over."""
    return below(a, b)


@device
def value(x: Real) -> Real:
    return x


@device
def magnitude(x: Real) -> Real:
    return copysign(x, ONE)


@device
def square(x: Real) -> Real:
    return x * x


@device
def result(s: f32, count: f32) -> f32:
    return s


@device
def mean(s: f32, count: f32) -> f32:
    return s / count


@device
def root(s: f32, count: f32) -> f32:
    return sqrt(s)


@device
def logarithm(s: f32, count: f32) -> f32:
    return log(s)


#: what is done to each element, how two are combined, the neutral element, what is done to the result; for `Kernel.bind`
term = value
combine = add
start = ZERO
finish = result


@device
def fold(function: Combine, lanes: f32p) -> f32:
    """lanes[0 .. 16] combined in halves."""
    for i in range(8):
        lanes[i] = function(lanes[i], lanes[i + 8])
    for i in range(4):
        lanes[i] = function(lanes[i], lanes[i + 4])
    for i in range(2):
        lanes[i] = function(lanes[i], lanes[i + 2])
    return function(lanes[0], lanes[1])


@device
def fold_columns(function: Combine, lanes: f32p) -> None:
    """Sixteen vectors combined in halves, into the first."""
    half = 8
    while half > 0:
        for i in range(half):
            at = i * LANES
            vstore(lanes, at, function(vload(lanes, at), vload(lanes, at + half * LANES)))
        half //= 2


@kernel
def reduce_rows(outer: i64, n: i64, count: f32, x: f32p, y: f32p, lanes: f32p) -> None:
    """y [outer] from x [outer][n]. count: what a mean divides by. lanes: [16] scratch."""
    whole = n - n % LANES
    for r in range(outer):
        at = r * n
        acc = splat(start)
        for k in range(0, whole, LANES):
            acc = combine(acc, term(vload(x, at + k)))
        vstore(lanes, 0, acc)
        for k in range(n - whole):
            lanes[k] = combine(lanes[k], term(x[at + whole + k]))
        y[r] = finish(fold(combine, lanes), count)


@kernel
def reduce_pair(a: f32, b: f32, count: f32) -> f32:
    """`reduce_rows` for a row of two elements, inside of a loop over the rows."""
    return finish(combine(combine(start, term(a)), term(b)), count)


@kernel
def reduce_columns(outer: i64, n: i64, inner: i64, count: f32, x: f32p, y: f32p, lanes: f32p) -> None:
    """y [outer][inner] from x [outer][n][inner]. lanes: [16][16] scratch."""
    for r in range(outer):
        for first in range(0, inner, LANES):
            left = inner - first
            for residue in range(LANES):
                acc = splat(start)
                for k in range(residue, n, LANES):
                    acc = combine(acc, term(load_lanes(x, (r * n + k) * inner + first, left)))
                vstore(lanes, residue * LANES, acc)
            fold_columns(combine, lanes)
            for i in range(min(left, LANES)):
                y[r * inner + first + i] = finish(lanes[i], count)


# -- what is no float32: one number after the other, in the order of n ---------------------------------------------------


@device
def higher(a: i64, b: i64) -> i64:
    """The larger one; NaN is passed over."""
    return b if b > a or a != a else a


@device
def lower(a: i64, b: i64) -> i64:
    """The smaller one; NaN is passed over."""
    return b if b < a or a != a else a


@device
def size_of(x: i64) -> i64:
    return x if x > 0 else 0 - x


@device
def mean_of_floats(s: f64, count: i64) -> f64:
    return s / np.float64(count)


@device
def root_of_double(s: f64, count: i64) -> f64:
    return sqrt_of_double(s)


@device
def logarithm_of_double(s: f64, count: i64) -> f64:
    return log_of_double(s)


@device
def mean_of_integers(s: i64, count: i64) -> i64:
    """s / count, rounded toward zero."""
    quotient = s // count
    return quotient + 1 if quotient < 0 and quotient * count != s else quotient


@device
def mean_of_unsigned(s: u64, count: i64) -> u64:
    return s // np.uint64(count)


@kernel
def reduce_plain(outer: i64, n: i64, inner: i64, count: i64, x: i64p, y: i64p) -> None:
    """y [outer][inner] from x [outer][n][inner]; n is at least 1."""
    for r in range(outer):
        for i in range(inner):
            at = r * n * inner + i
            total = term(x[at])
            for k in range(1, n):
                total = combine(total, term(x[at + k * inner]))
            y[r * inner + i] = finish(total, count)


@device
def greater(a: f32, b: f32) -> b1:
    return a > b


@device
def smaller(a: f32, b: f32) -> b1:
    return a < b


#: whether the first operand is the one to keep; for `Kernel.bind`
better = greater


@kernel
def arg_reduce(outer: i64, n: i64, inner: i64, last: i64, x: f32p, y: i64p) -> None:
    """y [outer][inner]: index along n of the best element, of the last one where `last` is 1 and several are equal. NaN is best
    where there is nothing else."""
    for r in range(outer):
        for i in range(inner):
            at = r * n * inner + i
            best, found = x[at], 0
            for k in range(1, n):
                v = x[at + k * inner]
                if better(v, best) or (last != 0 and v == best) or (best != best and (v == v or last != 0)):
                    best, found = v, k
            y[r * inner + i] = found


@kernel
def shifted_exp(x: f32, top: f32) -> f32:
    """exp(x - top), where a top that is infinite counts as 0."""
    return exp(x - (top if top - top == ZERO else ZERO))


@kernel
def unshifted_log(s: f32, top: f32) -> f32:
    """log(s) + top, where a top that is infinite counts as 0."""
    return log(s) + (top if top - top == ZERO else ZERO)
