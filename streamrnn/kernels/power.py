"""pow on vectors and single numbers alike, without libm. See `math`.

The logarithm of the base is multiplied by the exponent, so it needs more digits than a float32 has. It is held as a pair
(high, low) whose exact sum is the value; products and sums of pairs are Dekker's (1971), which need no fused multiply-add.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device
from streamrnn.kernels.math import (
    HALF,
    INF,
    LN2_HI,
    LN2_LO,
    LOG2E,
    NAN,
    ONE,
    ZERO,
    absolute,
    binary_parts,
    expm1_reduced,
    round_even,
)
from streamrnn.kernels.simd import Real, above, below, copysign, fma, head, nearest, pick_equal, pick_less, pow2


@device
def _sum_low(a: Real, b: Real, total: Real) -> Real:
    """What rounding took from total = a + b; exact."""
    back = total - a
    return (a - (total - back)) + (b - back)


@device
def _product_low(a: Real, b: Real, product: Real) -> Real:
    """What rounding took from product = a * b; exact unless it is a denormal."""
    ah, bh = head(a), head(b)
    al, bl = a - ah, b - bh
    return ((ah * bh - product) + ah * bl + al * bh) + al * bl


# SLEEF logkf: log(m) = 2 q + q**3 * P(q**2), q = (m - 1) / (m + 1); the last coefficient is 2/3 as a pair
_P0 = np.float32(0.240320354700088500976562)
_P1 = np.float32(0.285112679004669189453125)
_P2 = np.float32(0.400007992982864379882812)
_P3 = np.float32(0.66666662693023681640625)
_P3_LOW = np.float32(3.69183861259614332084311e-9)


@device
def _log_pair(x: Real) -> tuple[Real, Real]:
    """log(x) as a pair, for a positive finite x; the sum is within 2**-31 of its value."""
    m, e = binary_parts(x)
    bottom = m + ONE
    q = (m - ONE) / bottom
    back = q * bottom
    q_low = ((m - ONE - back) - _product_low(q, bottom, back) - q * _sum_low(m, ONE, bottom)) / bottom
    s = q * q
    s_low = _product_low(q, q, s) + (q + q) * q_low
    tail = fma(fma(_P0, s, _P1), s, _P2) * s
    p = _P3 + tail
    p_low = _sum_low(_P3, tail, p) + _P3_LOW
    cube = s * q
    cube_low = _product_low(s, q, cube) + (s_low * q + s * q_low)
    rest = cube * p
    rest_low = _product_low(cube, p, rest) + (cube_low * p + cube * p_low)
    start = e * LN2_HI
    first = start + (q + q)
    second = first + rest
    low = _sum_low(start, q + q, first) + _sum_low(first, rest, second)
    low = low + (e * LN2_LO + ((q_low + q_low) + rest_low))
    high = second + low
    return high, low - (high - second)


@device
def _exp_pair(high: Real, low: Real) -> Real:
    """e ** (high + low) for |low| much smaller than |high|, which is in -110 .. 95."""
    n = nearest(high * LOG2E)
    part = fma(n, -LN2_HI, high)
    small = fma(n, -LN2_LO, low)
    r = part + small
    y = (expm1_reduced(r) + _sum_low(part, small, r)) + ONE
    half = nearest(n * HALF)
    return y * pow2(half) * pow2(n - half)


#: beyond it every power of a number other than 1 is 0 or inf
_LARGEST_EXPONENT = np.float32(2**35)
_OVERFLOWS = np.float32(95)
_VANISHES = np.float32(-110)


@device
def _magnitude(size: Real, y: Real) -> Real:
    """size ** y for a positive finite `size`."""
    high, low = _log_pair(size)
    y = above(below(y, _LARGEST_EXPONENT), -_LARGEST_EXPONENT)
    z = high * y
    z_low = _product_low(high, y, z) + low * y
    inside = pick_less(z, _OVERFLOWS, pick_less(_VANISHES, z, ONE, ZERO), ZERO)
    return _exp_pair(above(below(z, _OVERFLOWS), _VANISHES), z_low * inside)


@device
def power(x: Real, y: Real) -> Real:
    """x ** y with C's special cases: 1 for y = 0 or x = 1, NaN for a negative x and a y that is no whole number.

    At most 1.5 ulp. Method: Dekker's pairs, the polynomials of SLEEF's logkf and Cephes' expf.
    """
    size = absolute(x)
    at_zero, at_inf = pick_less(y, ZERO, INF, ZERO), pick_less(y, ZERO, ZERO, INF)
    value = pick_less(size, INF, pick_equal(size, ZERO, at_zero, _magnitude(size, y)), at_inf)
    whole = pick_equal(round_even(y), y, ONE, ZERO)
    odd = whole - pick_equal(round_even(y * HALF), y * HALF, ONE, ZERO)
    value = copysign(value, pick_less(ZERO, odd, x, ONE))
    negative = pick_less(x, ZERO, pick_less(size, INF, ONE - whole, ZERO), ZERO)
    value = pick_less(ZERO, negative, NAN, value)
    value = pick_equal(x, x, pick_equal(y, y, value, y), x)
    return pick_equal(y, ZERO, ONE, pick_equal(x, ONE, ONE, value))
