"""Elementary functions on vectors and single numbers alike, without libm.

The same polynomial runs in every kernel and on every CPU. Errors are stated in ulp of float32 and tested against float64
over the whole range (`tests/test_math.py`). NaN goes through every function.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device
from streamrnn.kernels.simd import Real, above, below, exponent, fma, mantissa, nearest, pick_less, pow2

ONE = np.float32(1)
HALF = np.float32(0.5)
TWO = np.float32(2)
ZERO = np.float32(0)

_LOG2E = np.float32(1.44269504088896341)
# ln 2 in two parts: the first has few bits, so n * _LN2_HI is exact
_LN2_HI = np.float32(0.693359375)
_LN2_LO = np.float32(-2.12194440e-4)
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
def exp(x: Real) -> Real:
    """e ** x. At most 2 ulp; 0 below -103.98, inf above 88.73. Method: Cephes expf (argument reduction by ln 2)."""
    x = above(below(x, _EXP_HIGHEST), _EXP_LOWEST)
    n = nearest(x * _LOG2E)
    r = fma(n, -_LN2_LO, fma(n, -_LN2_HI, x))
    p = fma(_E0, r, _E1)
    p = fma(p, r, _E2)
    p = fma(p, r, _E3)
    p = fma(p, r, _E4)
    p = fma(p, r, _E5)
    y = fma(p, r * r, r) + ONE
    half = nearest(n * HALF)  # two factors, because 2 ** n itself may be too large or too small for a float32
    return y * pow2(half) * pow2(n - half)


_SATURATED = np.float32(88)


@device
def exp_bounded(x: Real) -> Real:
    """e ** x for x clamped to -87.3 .. 88: what sigmoid and tanh need, with one scaling less than `exp`."""
    x = above(below(x, _SATURATED), -_SATURATED + ONE)
    n = nearest(x * _LOG2E)
    r = fma(n, -_LN2_LO, fma(n, -_LN2_HI, x))
    p = fma(_E0, r, _E1)
    p = fma(p, r, _E2)
    p = fma(p, r, _E3)
    p = fma(p, r, _E4)
    p = fma(p, r, _E5)
    return (fma(p, r * r, r) + ONE) * pow2(n)


@device
def sigmoid(x: Real) -> Real:
    """1 / (1 + exp(-x)). At most 3 ulp above -80."""
    return ONE / (ONE + exp_bounded(-x))


# Eigen's rational approximation of tanh, odd over even, clamped where tanh is 1 to float32
_TANH_CLAMP = np.float32(7.90531110763549805)
_P13 = np.float32(-2.76076847742355e-16)
_P11 = np.float32(2.00018790482477e-13)
_P9 = np.float32(-8.60467152213735e-11)
_P7 = np.float32(5.12229709037114e-08)
_P5 = np.float32(1.48572235717979e-05)
_P3 = np.float32(6.37261928875436e-04)
_P1 = np.float32(4.89352455891786e-03)
_Q6 = np.float32(1.19825839466702e-06)
_Q4 = np.float32(1.18534705686654e-04)
_Q2 = np.float32(2.26843463243900e-03)
_Q0 = np.float32(4.89352518554385e-03)


@device
def tanh(x: Real) -> Real:
    """Hyperbolic tangent. At most 4 ulp. Method: Eigen's rational function of degree 13 over 6."""
    x = above(below(x, _TANH_CLAMP), -_TANH_CLAMP)
    s = x * x
    p = fma(_P13, s, _P11)
    p = fma(p, s, _P9)
    p = fma(p, s, _P7)
    p = fma(p, s, _P5)
    p = fma(p, s, _P3)
    p = fma(p, s, _P1)
    q = fma(_Q6, s, _Q4)
    q = fma(q, s, _Q2)
    q = fma(q, s, _Q0)
    return x * p / q


_LN2 = np.float32(0.69314718055994531)
_SQRT2 = np.float32(1.41421356237309505)
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
def log_normal(x: Real) -> Real:
    """Natural logarithm of a positive normal number. At most 2 ulp. Method: Cephes logf."""
    m = mantissa(x)
    e = exponent(x) + pick_less(_SQRT2, m, ONE, ZERO)
    m = pick_less(_SQRT2, m, m * HALF, m) - ONE
    p = fma(_L0, m, _L1)
    p = fma(p, m, _L2)
    p = fma(p, m, _L3)
    p = fma(p, m, _L4)
    p = fma(p, m, _L5)
    p = fma(p, m, _L6)
    p = fma(p, m, _L7)
    p = fma(p, m, _L8)
    s = m * m
    y = fma(p * m, s, e * _LN2_LO)
    return fma(e, _LN2_HI, fma(s, -HALF, y) + m)


@device
def log1p_exp(x: Real) -> Real:
    """log(1 + e ** x) without overflow: max(x, 0) + log(1 + e ** -|x|)."""
    u = exp(pick_less(x, ZERO, x, -x))
    w = u + ONE
    # the factor u / (w - 1) restores what rounding took from w
    small = pick_less(ONE, w, log_normal(w) * u / above(w - ONE, _TINY), u)
    return pick_less(ZERO, x, x, ZERO) + small


_TINY = np.float32(1e-30)
