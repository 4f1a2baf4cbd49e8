"""Circular functions and their inverses on vectors and single numbers alike, without libm. See `math`."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device
from streamrnn.kernels.math import HALF, INF, NAN, ONE, TWO, ZERO, absolute
from streamrnn.kernels.simd import Real, copysign, fma, pick_equal, pick_less, quadrant, quadrant_rest, sqrt

_THREE = np.float32(3)
_FOUR = np.float32(4)
_HALF_PI = np.float32(1.57079632679489662)
_QUARTER_PI = np.float32(0.78539816339744831)
_PI = np.float32(3.14159265358979323)

# Cephes sinf and cosf: (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 on |r| <= pi / 4
_S0 = np.float32(-1.9515295891e-4)
_S1 = np.float32(8.3321608736e-3)
_S2 = np.float32(-1.6666654611e-1)
_C0 = np.float32(2.443315711809948e-5)
_C1 = np.float32(-1.388731625493765e-3)
_C2 = np.float32(4.166664568298827e-2)


@device
def _reduced(x: Real) -> Real:
    """|x| minus the nearest multiple of pi / 2, within 2 ulp for every finite x."""
    size = absolute(x)
    return pick_less(size, HALF, size, quadrant_rest(size) * _HALF_PI)


@device
def _quadrant_of(x: Real) -> Real:
    """The number, modulo 4, of that multiple."""
    size = absolute(x)
    return pick_less(size, HALF, ZERO, quadrant(size))


@device
def _sine(r: Real, n: Real) -> Real:
    """sin(r + n * pi / 2) for |r| <= pi / 4 and n in 0 .. 4."""
    s = r * r
    sine = fma(fma(fma(_S0, s, _S1), s, _S2) * s, r, r)
    cosine = fma(fma(fma(_C0, s, _C1), s, _C2) * s, s, fma(s, -HALF, ONE))
    odd = pick_equal(n, ONE, cosine, pick_equal(n, _THREE, cosine, sine))
    return pick_less(ONE, n, pick_less(n, _FOUR, -odd, odd), odd)


@device
def sin(x: Real) -> Real:
    """Sine; NaN for infinite x. At most 3 ulp. Method: Payne and Hanek's reduction, Cephes sinf."""
    y = _sine(_reduced(x), _quadrant_of(x))
    return pick_less(absolute(x), INF, copysign(ONE, x) * y, NAN)


@device
def cos(x: Real) -> Real:
    """Cosine; NaN for infinite x. At most 3 ulp. Method: Payne and Hanek's reduction, Cephes cosf."""
    return pick_less(absolute(x), INF, _sine(_reduced(x), _quadrant_of(x) + ONE), NAN)


# Cephes tanf: (tan(r) - r) / r**3 on |r| <= pi / 4
_T0 = np.float32(9.38540185543e-3)
_T1 = np.float32(3.11992232697e-3)
_T2 = np.float32(2.44301354525e-2)
_T3 = np.float32(5.34112807005e-2)
_T4 = np.float32(1.33387994085e-1)
_T5 = np.float32(3.33331568548e-1)


@device
def tan(x: Real) -> Real:
    """Tangent; NaN for infinite x. At most 4 ulp. Method: Payne and Hanek's reduction, Cephes tanf."""
    r, n = _reduced(x), _quadrant_of(x)
    s = r * r
    p = fma(_T0, s, _T1)
    p = fma(p, s, _T2)
    p = fma(p, s, _T3)
    p = fma(p, s, _T4)
    p = fma(p, s, _T5)
    y = fma(p * s, r, r)
    y = pick_equal(n, ONE, -ONE / y, pick_equal(n, _THREE, -ONE / y, y))
    return pick_less(absolute(x), INF, copysign(ONE, x) * y, NAN)


# Cephes asinf: (asin(x) - x) / x**3 on |x| <= 1/2
_A0 = np.float32(4.2163199048e-2)
_A1 = np.float32(2.4181311049e-2)
_A2 = np.float32(4.5470025998e-2)
_A3 = np.float32(7.4953002686e-2)
_A4 = np.float32(1.6666752422e-1)


@device
def _asin_small(x: Real, s: Real) -> Real:
    """asin(x) for |x| <= 1/2 and s = x**2."""
    p = fma(_A0, s, _A1)
    p = fma(p, s, _A2)
    p = fma(p, s, _A3)
    p = fma(p, s, _A4)
    return fma(p * s, x, x)


@device
def asin(x: Real) -> Real:
    """Inverse sine; NaN outside -1 .. 1. At most 3 ulp. Method: Cephes asinf."""
    size = absolute(x)
    s = pick_less(HALF, size, (ONE - size) * HALF, x * x)
    y = _asin_small(pick_less(HALF, size, sqrt(s), size), s)
    y = pick_less(HALF, size, fma(y, -TWO, _HALF_PI), y)
    return copysign(pick_less(ONE, size, NAN, y), x)


@device
def acos(x: Real) -> Real:
    """Inverse cosine; NaN outside -1 .. 1. At most 2 ulp. Method: Cephes acosf."""
    size = absolute(x)
    s = pick_less(HALF, size, (ONE - size) * HALF, x * x)
    y = _asin_small(pick_less(HALF, size, sqrt(s), x), s)
    outer = y + y
    outer = pick_less(x, ZERO, _PI - outer, outer)
    return pick_less(ONE, size, NAN, pick_less(HALF, size, outer, _HALF_PI - y))


# Cephes atanf: (atan(r) - r) / r**3 on |r| <= tan(pi / 8)
_B0 = np.float32(8.05374449538e-2)
_B1 = np.float32(-1.38776856032e-1)
_B2 = np.float32(1.99777106478e-1)
_B3 = np.float32(-3.33329491539e-1)
_TAN_PI_8 = np.float32(0.41421356237309505)
_TAN_3PI_8 = np.float32(2.41421356237309505)


@device
def atan(x: Real) -> Real:
    """Inverse tangent. At most 3 ulp. Method: Cephes atanf."""
    size = absolute(x)
    start = pick_less(_TAN_3PI_8, size, _HALF_PI, pick_less(_TAN_PI_8, size, _QUARTER_PI, ZERO))
    r = pick_less(_TAN_PI_8, size, (size - ONE) / (size + ONE), size)
    r = pick_less(_TAN_3PI_8, size, -ONE / size, r)
    s = r * r
    p = fma(_B0, s, _B1)
    p = fma(p, s, _B2)
    p = fma(p, s, _B3)
    return copysign(start + fma(p * s, r, r), x)
