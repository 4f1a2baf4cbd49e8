"""Elementary functions on vectors and single numbers alike, without libm: exponentials, logarithms, rounding.

The same polynomial runs in every kernel and on every CPU. Errors are stated in ulp of float32 and tested against float64
over the whole range (`tests/test_math.py`), with and without a fused multiply-add. NaN goes through every function, and
the sign of zero through every odd one.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32
from streamrnn.kernels.simd import (
    Real,
    above,
    below,
    copysign,
    exponent,
    fma,
    mantissa,
    nearest,
    pick_equal,
    pick_less,
    pow2,
    sqrt,
)

ONE = np.float32(1)
HALF = np.float32(0.5)
TWO = np.float32(2)
ZERO = np.float32(0)
INF = np.float32(np.inf)
NAN = np.float32(np.nan)

# -- rounding -------------------------------------------------------------------------------------------------------

_NO_FRACTION = np.float32(2**23)


@device
def absolute(x: Real) -> Real:
    """|x|."""
    return copysign(x, ONE)


@device
def round_even(x: Real) -> Real:
    """The nearest whole number, ties to even, for every x; exact."""
    size = absolute(x)
    # adding 2**23 leaves no bit for a fraction
    return pick_less(size, _NO_FRACTION, copysign((size + _NO_FRACTION) - _NO_FRACTION, x), x)


@device
def floor(x: Real) -> Real:
    """The largest whole number not above x; exact."""
    near = round_even(x)
    return pick_less(x, near, near - ONE, near)


@device
def ceil(x: Real) -> Real:
    """The smallest whole number not below x; exact."""
    near = round_even(x)
    return copysign(pick_less(near, x, near + ONE, near), x)


@device
def fmod(a: f32, b: f32) -> f32:
    """a - b * trunc(a / b), exact, for single numbers; NaN for b = 0 or infinite a.

    Long division: two steps for each bit of the quotient, at most 554.
    """
    rest, size = absolute(a), absolute(b)
    if not (rest < INF and size > ZERO):
        return NAN
    part = size
    while rest - part >= part:
        part = part + part
    while part >= size:
        if rest >= part:
            rest = rest - part
        if part == size:
            break
        part = part * HALF
    return copysign(rest, a)


# -- exponentials ---------------------------------------------------------------------------------------------------

LOG2E = np.float32(1.44269504088896341)
# ln 2 in two parts: the first has few bits, so n * LN2_HI is exact
LN2_HI = np.float32(0.693359375)
LN2_LO = np.float32(-2.12194440e-4)
_EXP_LOWEST = np.float32(-104)
_EXP_HIGHEST = np.float32(89)
# Cephes expf: minimax polynomial of (exp(r) - 1 - r) / r**2 on |r| <= ln 2 / 2
_E0 = np.float32(1.9875691500e-4)
_E1 = np.float32(1.3981999507e-3)
_E2 = np.float32(8.3334519073e-3)
_E3 = np.float32(4.1665795894e-2)
_E4 = np.float32(1.6666665459e-1)
_E5 = np.float32(5.0000001201e-1)


@device
def expm1_reduced(r: Real) -> Real:
    """e ** r - 1 for |r| <= ln 2 / 2."""
    p = fma(_E0, r, _E1)
    p = fma(p, r, _E2)
    p = fma(p, r, _E3)
    p = fma(p, r, _E4)
    p = fma(p, r, _E5)
    return fma(p, r * r, r)


@device
def _without_ln2(x: Real, n: Real) -> Real:
    """x - n * ln 2."""
    return fma(n, -LN2_LO, fma(n, -LN2_HI, x))


@device
def exp_scaled(x: Real, k: Real) -> Real:
    """2 ** k * e ** x for a small whole number k, without overflow on the way. At most 1.5 ulp."""
    x = above(below(x, _EXP_HIGHEST - k), _EXP_LOWEST - k)
    n = nearest(x * LOG2E)
    y = expm1_reduced(_without_ln2(x, n)) + ONE
    n = n + k
    half = nearest(n * HALF)  # two factors, because 2 ** n itself may be too large or too small for a float32
    return y * pow2(half) * pow2(n - half)


@device
def exp(x: Real) -> Real:
    """e ** x. At most 1.5 ulp; 0 below -103.98, inf above 88.73. Method: Cephes expf (argument reduction by ln 2)."""
    return exp_scaled(x, ZERO)


_BOUND = np.float32(87)


@device
def exp_bounded(x: Real) -> Real:
    """e ** x for x clamped to -87 .. 87: what sigmoid needs, with one scaling less than `exp`. At most 1.5 ulp."""
    x = above(below(x, _BOUND), -_BOUND)
    n = nearest(x * LOG2E)
    return (expm1_reduced(_without_ln2(x, n)) + ONE) * pow2(n)


_EXPM1_LOWEST = np.float32(-20)
_NO_REDUCTION = np.float32(0.34)


@device
def expm1(x: Real) -> Real:
    """e ** x - 1. At most 2 ulp. Method: Cephes expf, the 1 taken off before the scaling."""
    bounded = above(below(x, _EXP_HIGHEST), _EXPM1_LOWEST)
    n = nearest(bounded * LOG2E)
    p = expm1_reduced(_without_ln2(bounded, n))
    half = pow2(n - ONE)  # 2 ** n itself is too large for n = 128
    return copysign(pick_less(absolute(x), _NO_REDUCTION, p, fma(p, half, half - HALF) * TWO), x)


# Cephes sinhf: (sinh(x) - x) / x**3 on |x| <= 1
_H0 = np.float32(2.03721912945e-4)
_H1 = np.float32(8.33028376239e-3)
_H2 = np.float32(1.66667160211e-1)
_QUARTER = np.float32(0.25)


@device
def sinh(x: Real) -> Real:
    """Hyperbolic sine. At most 2 ulp. Method: Cephes sinhf."""
    s = x * x
    small = fma(fma(fma(_H0, s, _H1), s, _H2) * s, x, x)
    half = exp_scaled(absolute(x), -ONE)
    return pick_less(absolute(x), ONE, small, copysign(half - _QUARTER / half, x))


@device
def cosh(x: Real) -> Real:
    """Hyperbolic cosine. At most 2 ulp. Method: Cephes coshf."""
    half = exp_scaled(absolute(x), -ONE)
    return half + _QUARTER / half


@device
def sigmoid(x: Real) -> Real:
    """1 / (1 + exp(-x)). At most 3 ulp above -87; below it stays at 1.6e-38, which is not a denormal."""
    return ONE / (ONE + exp_bounded(-x))


# Eigen's rational approximation of tanh (found with rminimax), odd over even
_TANH_CLAMP = np.float32(8.055275)  # the value is exactly 1 there and never above
_P9 = np.float32(1.394553628e-8)
_P7 = np.float32(2.102733560e-5)
_P5 = np.float32(3.520756727e-3)
_P3 = np.float32(1.340216100e-1)
_Q8 = np.float32(8.015776984e-7)
_Q6 = np.float32(3.326951409e-4)
_Q4 = np.float32(2.597254514e-2)
_Q2 = np.float32(4.673548340e-1)


@device
def tanh(x: Real) -> Real:
    """Hyperbolic tangent. At most 6 ulp. Method: Eigen's rational function of degree 9 over 8."""
    x = above(below(x, _TANH_CLAMP), -_TANH_CLAMP)
    s = x * x
    p = fma(_P9, s, _P7)
    p = fma(p, s, _P5)
    p = fma(p, s, _P3)
    q = fma(_Q8, s, _Q6)
    q = fma(q, s, _Q4)
    q = fma(q, s, _Q2)
    q = fma(q, s, ONE)
    return fma(s * x, p, x) / q


# -- logarithms -----------------------------------------------------------------------------------------------------

_SQRT2 = np.float32(1.41421356237309505)
_LOWEST_NORMAL = np.float32(2**-126)
_DENORMAL_SCALE = np.float32(2**23)
_DENORMAL_EXPONENT = np.float32(23)
# Cephes logf: log(1 + m) = m - m**2 / 2 + m**3 * P(m) on sqrt(1/2) - 1 .. sqrt(2) - 1
_L0 = np.float32(7.0376836292e-2)
_L1 = np.float32(-1.1514610310e-1)
_L2 = np.float32(1.1676998740e-1)
_L3 = np.float32(-1.2420140846e-1)
_L4 = np.float32(1.4249322787e-1)
_L5 = np.float32(-1.6668057665e-1)
_L6 = np.float32(2.0000714765e-1)
_L7 = np.float32(-2.4999993993e-1)
_L8 = np.float32(3.3333331174e-1)


@device
def binary_parts(x: Real) -> tuple[Real, Real]:
    """(m, e) with x = m * 2 ** e and m from sqrt(1/2) to sqrt(2), for a positive finite x; exact."""
    tiny = pick_less(x, _LOWEST_NORMAL, ONE, ZERO)
    x = x * fma(tiny, _DENORMAL_SCALE - ONE, ONE)
    m, e = mantissa(x), exponent(x) - tiny * _DENORMAL_EXPONENT
    return pick_less(_SQRT2, m, m * HALF, m), e + pick_less(_SQRT2, m, ONE, ZERO)


@device
def _log_finite(x: Real, extra: Real) -> Real:
    """log(x) + extra for a positive finite x and a small `extra`."""
    m, e = binary_parts(x)
    m = m - ONE
    p = fma(_L0, m, _L1)
    p = fma(p, m, _L2)
    p = fma(p, m, _L3)
    p = fma(p, m, _L4)
    p = fma(p, m, _L5)
    p = fma(p, m, _L6)
    p = fma(p, m, _L7)
    p = fma(p, m, _L8)
    s = m * m
    y = fma(p * m, s, fma(e, LN2_LO, extra))
    return fma(e, LN2_HI, fma(s, -HALF, y) + m)


@device
def log(x: Real) -> Real:
    """Natural logarithm. At most 1 ulp; -inf at 0, NaN below. Method: Cephes logf."""
    y = pick_less(x, INF, _log_finite(x, ZERO), x)
    return pick_less(x, ZERO, NAN, pick_equal(x, ZERO, -INF, y))


@device
def log1p(x: Real) -> Real:
    """log(1 + x). At most 1 ulp; -inf at -1, NaN below. Method: `log`, and what the rounding of 1 + x lost is added."""
    u = x + ONE
    lost = pick_less(ONE, x, ONE - (u - x), x - (u - ONE)) / u
    y = pick_less(x, INF, copysign(_log_finite(u, lost), x), x)
    y = pick_less(absolute(x), _LOWEST_NORMAL, x, y)
    return pick_less(x, -ONE, NAN, pick_equal(x, -ONE, -INF, y))


@device
def softplus(x: Real) -> Real:
    """log(1 + e ** x) without overflow: max(x, 0) + log(1 + e ** -|x|). At most 2 ulp."""
    return above(x, ZERO) + log1p(exp(-absolute(x)))


#: from here on tanh(softplus(x)) is 1
_MISH_ONE = np.float32(20)


@device
def mish(x: Real) -> Real:
    """x tanh(softplus(x)). At most 4 ulp. Method: with e = e ** x and n = e (e + 2) it is x n / (n + 2)."""
    e = exp(below(x, _MISH_ONE))
    n = e * (e + TWO)
    return x * (n / (n + TWO))


_LN2 = np.float32(0.69314718055994531)
#: from here on 1 is nothing beside the square
_LARGE = np.float32(2**13)


@device
def asinh(x: Real) -> Real:
    """Inverse hyperbolic sine. At most 2 ulp. Method: log1p(x + x**2 / (1 + sqrt(1 + x**2)))."""
    size = absolute(x)
    s = size * size
    y = log1p(size + s / (ONE + sqrt(ONE + s)))
    return copysign(pick_less(size, _LARGE, y, log(size) + _LN2), x)


@device
def acosh(x: Real) -> Real:
    """Inverse hyperbolic cosine; NaN below 1. At most 3 ulp. Method: log1p(t + sqrt(t * (t + 2))), t = x - 1."""
    t = x - ONE
    y = log1p(t + sqrt(t * (t + TWO)))
    return pick_less(x, ONE, NAN, pick_less(x, _LARGE, y, log(x) + _LN2))


@device
def atanh(x: Real) -> Real:
    """Inverse hyperbolic tangent; NaN outside -1 .. 1. At most 3 ulp. Method: log1p(2 x / (1 - x)) / 2."""
    size = absolute(x)
    return copysign(log1p((size + size) / (ONE - size)) * HALF, x)


# -- error function -------------------------------------------------------------------------------------------------

# N. Juffa's erff: log(1 - erf(t)) + t for large t, (erf(x) - x) / x for small x
_ERF_SPLIT = np.float32(0.927734375)
_ERF_ONE = np.float32(4)
_F0 = np.float32(-1.72853470e-5)
_F1 = np.float32(3.83197126e-4)
_F2 = np.float32(-3.88396438e-3)
_F3 = np.float32(2.42546219e-2)
_F4 = np.float32(-1.06777877e-1)
_F5 = np.float32(-6.34846687e-1)
_F6 = np.float32(-1.28717512e-1)
_G0 = np.float32(-5.96761703e-4)
_G1 = np.float32(4.99119423e-3)
_G2 = np.float32(-2.67681349e-2)
_G3 = np.float32(1.12819925e-1)
_G4 = np.float32(-3.76125336e-1)
_G5 = np.float32(1.28379166e-1)


@device
def erf(x: Real) -> Real:
    """Error function. At most 1.5 ulp. Method: N. Juffa's erff."""
    s = x * x
    p = fma(_G0, s, _G1)
    p = fma(p, s, _G2)
    p = fma(p, s, _G3)
    p = fma(p, s, _G4)
    p = fma(p, s, _G5)
    t = below(absolute(x), _ERF_ONE)
    q = fma(fma(_F0, t, _F1), t * t, fma(_F2, t, _F3))
    q = fma(q, t, _F4)
    q = fma(q, t, _F5)
    q = fma(q, t, _F6)
    return pick_less(absolute(x), _ERF_SPLIT, fma(p, x, x), copysign(ONE - exp_bounded(fma(q, t, -t)), x))
