"""The vector type: 16 lanes of float32, and the primitives on it. SIMD lives only here and in `_lanes`.

Kernels read as plain Python over lanes: `a = fma(vload(w, i), splat(x[k]), a)`. LLVM lowers `<16 x float>` to one AVX-512
register, two AVX or four SSE/NEON registers, so one packing of the weights and one text serve every CPU. In plain Python a
vector is a NumPy array of 16. `fma`, `above`, `below`, `pick_less` and `pow2` also take single float32 numbers, so that one
text of `math` serves lanes and scalars; + - * / and unary minus work on vectors and numbers alike.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import Primitive, f32p

LANES = 16

#: a NumPy array of 16 in plain Python, `<16 x float>` when compiled
Vec: TypeAlias = Any
#: a vector or a single number
Real: TypeAlias = Any


def tiles(n: int) -> int:
    """Vectors that hold n lanes."""
    return -(-n // LANES)


def _where(mask: Any, yes: Real, no: Real) -> Real:
    chosen: Any = np.where(mask, yes, no)
    return np.float32(chosen)


@Primitive
def vload(p: f32p, i: int) -> Vec:
    """Lanes p[i : i + 16]."""
    return p[i : i + LANES].copy()


@Primitive
def vstore(p: f32p, i: int, v: Vec) -> None:
    """p[i : i + 16] = v."""
    p[i : i + LANES] = v


@Primitive
def vload_part(p: f32p, i: int, n: int) -> Vec:
    """The first n (at most 16) lanes from p[i : i + n], the rest zero."""
    v = np.zeros(LANES, np.float32)
    n = min(n, LANES)
    v[:n] = p[i : i + n]
    return v


@Primitive
def vstore_part(p: f32p, i: int, n: int, v: Vec) -> None:
    """p[i : i + n] = the first n (at most 16) lanes of v."""
    n = min(n, LANES)
    p[i : i + n] = v[:n]


@Primitive
def splat(x: float) -> Vec:
    """The same number in every lane."""
    return np.full(LANES, x, np.float32)


@Primitive
def fma(a: Real, b: Real, c: Real) -> Real:
    """a * b + c, rounded once where the CPU can."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


@Primitive
def below(x: Real, bound: Real) -> Real:
    """x where it is not above `bound`, else `bound`; NaN stays NaN."""
    return _where(x > bound, bound, x)


@Primitive
def above(x: Real, bound: Real) -> Real:
    """x where it is not below `bound`, else `bound`; NaN stays NaN."""
    return _where(x < bound, bound, x)


@Primitive
def pick_less(a: Real, b: Real, yes: Real, no: Real) -> Real:
    """`yes` where a < b, else `no` (also where a or b is NaN)."""
    return _where(a < b, yes, no)


@Primitive
def nearest(x: Real) -> Real:
    """x rounded to the nearest whole number, ties to even; |x| is at most 2**22."""
    return np.rint(x).astype(np.float32)[()]


@Primitive
def pow2(n: Real) -> Real:
    """2 ** n for a whole number n in -126 .. 127."""
    return np.asarray(np.ldexp(np.float32(1), np.nan_to_num(np.asarray(n)).astype(np.int32)), np.float32)[()]


@Primitive
def exponent(x: Real) -> Real:
    """The exponent e of x = m * 2 ** e with m in [1, 2), as a float; x is a positive normal number."""
    return np.asarray(np.frexp(x)[1] - 1, np.float32)[()]


@Primitive
def mantissa(x: Real) -> Real:
    """The mantissa m in [1, 2) of x = m * 2 ** e; x is a positive normal number."""
    return np.asarray(np.frexp(x)[0] * 2, np.float32)[()]


@Primitive
def copysign(x: Real, sign: Real) -> Real:
    """|x| with the sign of `sign`."""
    return np.copysign(np.float32(x), np.float32(sign))


@Primitive
def vsum(v: Vec) -> Real:
    """Sum of the lanes, halves first: (8 + 8), (4 + 4), (2 + 2), (1 + 1)."""
    while len(v) > 1:
        v = v[: len(v) // 2] + v[len(v) // 2 :]
    return v[0]
