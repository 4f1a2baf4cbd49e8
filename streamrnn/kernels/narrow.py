"""Primitives on numbers of fewer bits: 16 lanes of int32 that add products of bytes, and the grid on which activations lie.

An activation on its grid is a whole number q in -8192 .. 8191, kept as two bytes of q + 8192: the upper 7 bits and the lower 7
bits. A weight is an int8. So a sum over activations and weights is two sums of products of bytes,

    sum q w = 128 * (sum upper w - 64 sum w) + sum lower w

which every CPU gives exactly, in any order.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import Primitive, i8p, i32p, u8p
from streamrnn.kernels.simd import LANES, Vec

#: a NumPy array of 16 int32 in plain Python, `<16 x i32>` when compiled
Ints: TypeAlias = Any

#: the function of LLVM IR behind `dot4`, which the linker may replace by the CPU's own
DOT4 = "streamrnn.dot4"
#: what is added to q, so that it is not negative; and how many times `upper` it is
OFFSET, UPPER_OFFSET = 8192, 64


@Primitive
def no_ints() -> Ints:
    """Zero in every lane."""
    return np.zeros(LANES, np.int32)


@Primitive
def load_ints(p: i32p, i: int) -> Ints:
    """Lanes p[i : i + 16]."""
    return p[i : i + LANES].copy()


@Primitive
def store_ints(p: i32p, i: int, n: int, v: Ints) -> None:
    """p[i : i + n] = the first n (at most 16) lanes of v."""
    n = min(n, LANES)
    p[i : i + n] = v[:n]


@Primitive
def dot4(sums: Ints, x: u8p, i: int, w: i8p, o: int) -> Ints:
    """sums[lane] + the products of x[i : i + 4] and w[o + 4 * lane : o + 4 * lane + 4]; it wraps around."""
    products = w[o : o + 4 * LANES].astype(np.int32).reshape(LANES, 4) * x[i : i + 4].astype(np.int32)
    return sums + products.sum(axis=1, dtype=np.int32)


@Primitive
def times(v: Ints, factor: Any) -> Ints:
    """v * factor (int32); it wraps around."""
    return v * np.int32(factor)


@Primitive
def joined(upper: Ints, lower: Ints) -> Ints:
    """128 * upper + lower; it wraps around."""
    return upper * np.int32(128) + lower


@Primitive
def to_real(v: Ints) -> Vec:
    """The float32 nearest to each lane."""
    return v.astype(np.float32)


@Primitive
def larger(a: Vec, b: Vec) -> Vec:
    """The larger one of two magnitudes; NaN where one of them is."""
    return np.maximum(np.abs(a), np.abs(b))


@Primitive
def peak(v: Vec) -> Any:
    """The largest magnitude of the lanes; NaN where one of them is."""
    return np.abs(v).max()


@Primitive
def store_grid(p: u8p, upper: int, lower: int, v: Vec) -> None:
    """The bytes of the whole numbers nearest to 16 lanes in -8192 .. 8191 (ties to even), to p[upper :] and p[lower :]; those
    of NaN are any."""
    u = np.nan_to_num(np.rint(v)).astype(np.int32) + OFFSET
    p[upper : upper + LANES] = u >> 7 & 127
    p[lower : lower + LANES] = u & 127
