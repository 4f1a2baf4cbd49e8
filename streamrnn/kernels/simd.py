"""The vector type: 16 lanes of float32, and the primitives on it. SIMD lives only here and in `_lanes`.

Kernels read as plain Python over lanes: `a = fma(vload(w, i), splat(x[k]), a)`. LLVM lowers `<16 x float>` to one AVX-512
register, two AVX or four SSE/NEON registers, so one packing of the weights and one text serve every CPU. In plain Python a
vector is a NumPy array of 16. Primitives on a `Real` also take single float32 numbers, so that one text of `math` serves
lanes and scalars; + - * / and unary minus work on vectors and numbers alike.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import Primitive, device, f32p

LANES = 16

#: the constant of LLVM IR behind `one_register`, which the linker sets
ONE_REGISTER = "streamrnn.one_register"
#: the function of LLVM IR that makes float32 lanes of float16 ones, which the linker may replace by the CPU's own
WIDEN = "streamrnn.widen"

#: the first 224 bits of 2 / pi behind the binary point
TWO_OVER_PI = 0xA2F9836E_4E441529_FC2757D1_F534DDC0_DB629599_3C439041_FE5163AB

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
def one_register() -> bool:
    """Whether a vector is one register of the CPU that the code is linked for. Eight vectors in flight are faster there, where
    narrower CPUs would run out of registers; what is computed must not depend on it."""
    return False


@Primitive
def vload(p: f32p, i: int) -> Vec:
    """Lanes p[i : i + 16]; from the bits of float16 too, so that one text reads weights of either width."""
    lanes = p[i : i + LANES]
    return lanes.copy() if lanes.dtype == np.float32 else lanes.view(np.float16).astype(np.float32)


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
def pick_equal(a: Real, b: Real, yes: Real, no: Real) -> Real:
    """`yes` where a == b, else `no` (also where a or b is NaN)."""
    return np.asarray(np.where(np.equal(a, b), yes, no), np.float32)[()]


@Primitive
def sqrt(x: Real) -> Real:
    """Square root, correctly rounded; NaN below zero."""
    return np.sqrt(np.float32(x))


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
def head(x: Real) -> Real:
    """x with the low 12 bits of its mantissa cleared: a product of two heads, or of what they leave, is exact."""
    return (np.asarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)[()]


@Primitive
def from_half(bits: Any) -> Any:
    """The float16 with these bits (uint16) as a float32."""
    return np.uint16(bits).view(np.float16).astype(np.float32)


@Primitive
def to_half(x: Any) -> Any:
    """The bits (uint16) of the float16 nearest to a float32, ties to even."""
    return np.float32(x).astype(np.float16).view(np.uint16)


@Primitive
def bits_of_double(x: Any) -> Any:
    """The bits of a float64 as an int64."""
    return np.float64(x).view(np.int64)


@Primitive
def double_of_bits(bits: Any) -> Any:
    """The float64 with these bits (int64)."""
    return np.int64(bits).view(np.float64)


@Primitive
def sqrt_double(x: Any) -> Any:
    """Square root of a float64, correctly rounded; NaN below zero."""
    return np.sqrt(np.float64(x))


@Primitive
def quadrant(x: Real) -> Real:
    """The whole number nearest to |x| / (pi / 2), modulo 4; x is finite and |x| at least 0.5."""
    return np.vectorize(lambda v: _quarter_turns(v)[0], otypes=[np.float32])(x)[()]


@Primitive
def quadrant_rest(x: Real) -> Real:
    """|x| / (pi / 2) minus the whole number nearest to it, within 1 ulp for every finite |x| from 0.5 on."""
    return np.vectorize(lambda v: _quarter_turns(v)[1], otypes=[np.float32])(x)[()]


def _quarter_turns(x: float) -> tuple[int, float]:
    """What `quadrant` and `quadrant_rest` give, by exact integers (Payne and Hanek 1983)."""
    if not np.isfinite(x):
        return 0, 0.0
    mantissa, exponent = np.frexp(np.float64(abs(x)))
    turns = int(mantissa * 2**24) * TWO_OVER_PI
    shift = int(exponent) - 24 - 224 + 62
    bits = (turns << shift if shift > 0 else turns >> -shift) & (1 << 64) - 1
    nearest = bits + (1 << 61) >> 62
    rest = bits - (nearest << 62)
    return nearest & 3, float(np.float32(rest * 2.0**-62))


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


@device
def load_lanes(p: f32p, i: int, n: int) -> Vec:
    """16 lanes from p[i], or n where fewer are left; the rest is zero."""
    if n >= LANES:
        return vload(p, i)
    return vload_part(p, i, n)


@device
def store_lanes(p: f32p, i: int, n: int, v: Vec) -> None:
    """16 lanes to p[i], or n where fewer are left."""
    if n >= LANES:
        vstore(p, i, v)
    else:
        vstore_part(p, i, n, v)
