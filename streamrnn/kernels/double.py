"""Elementary functions of single float64 numbers, without libm: rounding, exponentials, logarithms. See `math` for float32.

Only + - * / and bit patterns are used, never a fused multiply-add, so results have the same bits on every CPU and in plain
Python. Errors are stated in ulp of float64 and tested against longer numbers (`tests/test_double.py`). NaN goes through every
function, and the sign of zero through every odd one.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f64, i64
from streamrnn.kernels.simd import bits_of_double, double_of_bits, sqrt_double

ZERO = np.float64(0)
HALF = np.float64(0.5)
ONE = np.float64(1)
TWO = np.float64(2)
INF = np.float64(np.inf)
NAN = np.float64(np.nan)

_SIGN = np.int64(-(2**63))
_SIZE = np.int64(2**63 - 1)
_MANTISSA_BITS = np.int64(52)
_MANTISSA = np.int64(2**52 - 1)
_BIAS = np.int64(1023)
#: from here on a number has no fraction
_NO_FRACTION = np.float64(2**52)


@device
def absolute(x: f64) -> f64:
    """|x|."""
    return double_of_bits(bits_of_double(x) & _SIZE)


@device
def copysign(x: f64, sign: f64) -> f64:
    """|x| with the sign of `sign`."""
    return double_of_bits((bits_of_double(x) & _SIZE) | (bits_of_double(sign) & _SIGN))


@device
def pow2(n: i64) -> f64:
    """2 ** n for n in -1022 .. 1023."""
    return double_of_bits((n + _BIAS) << _MANTISSA_BITS)


@device
def sqrt(x: f64) -> f64:
    """Square root, correctly rounded; NaN below zero."""
    return sqrt_double(x)


# -- rounding -------------------------------------------------------------------------------------------------------


@device
def round_even(x: f64) -> f64:
    """The nearest whole number, ties to even, for every x; exact."""
    size = absolute(x)
    # adding 2**52 leaves no bit for a fraction
    return copysign((size + _NO_FRACTION) - _NO_FRACTION, x) if size < _NO_FRACTION else x


@device
def floor(x: f64) -> f64:
    """The largest whole number not above x; exact."""
    near = round_even(x)
    return near - ONE if x < near else near


@device
def ceil(x: f64) -> f64:
    """The smallest whole number not below x; exact."""
    near = round_even(x)
    return copysign(near + ONE if near < x else near, x)


@device
def fmod(a: f64, b: f64) -> f64:
    """a - b * trunc(a / b), exact; NaN for b = 0 or infinite a.

    Long division: two steps for each bit of the quotient, at most 4196.
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

_LOG2E = np.float64(1.44269504088896338700)
# ln 2 in two parts: the first has few bits, so n * _LN2_HI is exact
_LN2_HI = np.float64(6.93147180369123816490e-01)
_LN2_LO = np.float64(1.90821492927058770002e-10)
_EXP_LOWEST = np.float64(-746)
_EXP_HIGHEST = np.float64(710)
# fdlibm's __ieee754_exp: r * (e**r + 1) / (e**r - 1) = 2 + P1 * r**2 + P2 * r**4 + ... on |r| <= ln 2 / 2
_P1 = np.float64(1.66666666666666019037e-01)
_P2 = np.float64(-2.77777777770155933842e-03)
_P3 = np.float64(6.61375632143793436117e-05)
_P4 = np.float64(-1.65339022054652515390e-06)
_P5 = np.float64(4.13813679705723846039e-08)


@device
def exp(x: f64) -> f64:
    """e ** x. At most 1 ulp; 0 below -745.13, inf above 709.78. Method: fdlibm's exp (argument reduction by ln 2)."""
    if x != x:
        return x
    bounded = min(max(x, _EXP_LOWEST), _EXP_HIGHEST)
    n = round_even(bounded * _LOG2E)
    high, low = bounded - n * _LN2_HI, n * _LN2_LO
    r = high - low
    s = r * r
    c = r - s * (_P1 + s * (_P2 + s * (_P3 + s * (_P4 + s * _P5))))
    y = ONE - ((low - (r * c) / (TWO - c)) - high)
    whole = np.int64(n)
    half = whole >> 1  # two factors, because 2 ** n itself may be too large or too small
    return y * pow2(half) * pow2(whole - half)


# fdlibm's expm1
_Q1 = np.float64(-3.33333333333331316428e-02)
_Q2 = np.float64(1.58730158725481460165e-03)
_Q3 = np.float64(-7.93650757867487942473e-05)
_Q4 = np.float64(4.00821782732936239552e-06)
_Q5 = np.float64(-2.01099218183624371326e-07)
_THREE = np.float64(3)
_SIX = np.float64(6)
#: e ** x is nothing beside 1 below it, and 1 nothing beside e ** x above it
_ONE_ALONE = np.float64(40)
_NO_REDUCTION = np.float64(0.34)
_TINY = np.float64(2**-54)


@device
def expm1(x: f64) -> f64:
    """e ** x - 1. At most 1.5 ulp. Method: fdlibm's expm1, the 1 taken off before the scaling."""
    if x != x or absolute(x) < _TINY:
        return x
    if x > _ONE_ALONE:
        return exp(x)
    if x < -_ONE_ALONE:
        return -ONE
    n = ZERO if absolute(x) < _NO_REDUCTION else round_even(x * _LOG2E)
    high, low = x - n * _LN2_HI, n * _LN2_LO
    r = high - low
    lost = (high - r) - low
    half = HALF * r
    s = r * half
    p = ONE + s * (_Q1 + s * (_Q2 + s * (_Q3 + s * (_Q4 + s * _Q5))))
    t = _THREE - p * half
    e = s * ((p - t) / (_SIX - r * t))
    if n == ZERO:
        return r - (r * e - s)
    e = (r * (e - lost) - lost) - s  # e ** r - 1 = r - e
    whole = np.int64(n)
    return ((ONE - pow2(-whole)) - (e - r)) * pow2(whole)


@device
def _half_exp(size: f64) -> f64:
    """e ** size / 2 for a size that may be where e ** size overflows and its half does not."""
    root = exp(HALF * size)
    return (HALF * root) * root


#: e ** -x is nothing beside e ** x from here on
_ONE_SIDED = np.float64(22)
#: up to here e ** x does not overflow
_NO_OVERFLOW = np.float64(709)


@device
def sinh(x: f64) -> f64:
    """Hyperbolic sine. At most 3 ulp. Method: fdlibm's sinh."""
    size = absolute(x)
    if size < _ONE_SIDED:
        t = expm1(size)
        y = TWO * t - t * t / (t + ONE) if size < ONE else t + t / (t + ONE)
        return copysign(HALF * y, x)
    return copysign(HALF * exp(size) if size < _NO_OVERFLOW else _half_exp(size), x)


@device
def cosh(x: f64) -> f64:
    """Hyperbolic cosine. At most 3 ulp. Method: fdlibm's cosh."""
    size = absolute(x)
    if size < _NO_REDUCTION:
        t = expm1(size)
        return ONE + t * t / (TWO * (ONE + t))
    if size < _NO_OVERFLOW:
        t = exp(size)
        return HALF * t + HALF / t
    return _half_exp(size)


@device
def sigmoid(x: f64) -> f64:
    """1 / (1 + exp(-x)). At most 3 ulp above -708; 0 below -709.79."""
    return ONE / (ONE + exp(-x))


@device
def tanh(x: f64) -> f64:
    """Hyperbolic tangent. At most 2.5 ulp. Method: fdlibm's tanh."""
    size = absolute(x)
    if size >= _ONE_SIDED:
        return copysign(ONE, x)
    if size >= ONE:
        return copysign(ONE - TWO / (expm1(TWO * size) + TWO), x)
    t = expm1(-TWO * size)
    return copysign(-t / (t + TWO), x)


# -- logarithms -----------------------------------------------------------------------------------------------------

_LOWEST_NORMAL = np.float64(2.0**-1022)
_DENORMAL_SCALE = np.float64(2**54)
_DENORMAL_EXPONENT = np.float64(54)
_SQRT2 = np.float64(1.41421356237309504880)
# fdlibm's __ieee754_log: log(1 + f) = 2 s + s**3 * L1 + s**5 * L2 + ..., s = f / (2 + f)
_L1 = np.float64(6.666666666666735130e-01)
_L2 = np.float64(3.999999999940941908e-01)
_L3 = np.float64(2.857142874366239149e-01)
_L4 = np.float64(2.222219843214978396e-01)
_L5 = np.float64(1.818357216161805012e-01)
_L6 = np.float64(1.531383769920937332e-01)
_L7 = np.float64(1.479819860511658591e-01)


@device
def _log_parts(f: f64, e: f64, lost: f64) -> f64:
    """log(1 + f) + e * ln 2 + lost for 1 + f from sqrt(1/2) to sqrt(2) and a small `lost`."""
    s = f / (TWO + f)
    z = s * s
    r = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7))))))
    half = HALF * f * f
    if e == ZERO:
        return f - (half - (s * (half + r) + lost))
    return e * _LN2_HI - ((half - (s * (half + r) + (e * _LN2_LO + lost))) - f)


@device
def _log_finite(x: f64, lost: f64) -> f64:
    """log(x) + lost for a positive finite x and a small `lost`."""
    extra = ZERO
    if x < _LOWEST_NORMAL:
        x, extra = x * _DENORMAL_SCALE, _DENORMAL_EXPONENT
    bits = bits_of_double(x)
    e = np.float64((bits >> _MANTISSA_BITS) - _BIAS) - extra
    m = double_of_bits((bits & _MANTISSA) | (_BIAS << _MANTISSA_BITS))
    if m > _SQRT2:
        m, e = m * HALF, e + ONE
    return _log_parts(m - ONE, e, lost)


@device
def log(x: f64) -> f64:
    """Natural logarithm. At most 1 ulp; -inf at 0, NaN below. Method: fdlibm's log."""
    if x == ZERO:
        return -INF
    if x < ZERO:
        return NAN
    return _log_finite(x, ZERO) if x < INF else x


_SMALL = np.float64(0.29)


@device
def log1p(x: f64) -> f64:
    """log(1 + x). At most 1 ulp; -inf at -1, NaN below. Method: fdlibm's log1p, which adds what the rounding of 1 + x lost."""
    if x == -ONE:
        return -INF
    if x < -ONE:
        return NAN
    if not absolute(x) < INF or absolute(x) < _TINY:
        return x
    if absolute(x) < _SMALL:
        return _log_parts(x, ZERO, ZERO)
    u = ONE + x
    lost = ONE - (u - x) if x > ONE else x - (u - ONE)
    return _log_finite(u, lost / u)


@device
def softplus(x: f64) -> f64:
    """log(1 + e ** x) without overflow: max(x, 0) + log(1 + e ** -|x|). At most 2 ulp."""
    if x != x:
        return x
    return max(x, ZERO) + log1p(exp(-absolute(x)))


_LN2 = np.float64(6.93147180559945309417e-01)
#: from here on 1 is nothing beside the square
_LARGE = np.float64(2**28)


@device
def asinh(x: f64) -> f64:
    """Inverse hyperbolic sine. At most 2 ulp. Method: log1p(x + x**2 / (1 + sqrt(1 + x**2)))."""
    size = absolute(x)
    if size < _LARGE:
        s = size * size
        return copysign(log1p(size + s / (ONE + sqrt(ONE + s))), x)
    return copysign(log(size) + _LN2, x)


@device
def acosh(x: f64) -> f64:
    """Inverse hyperbolic cosine; NaN below 1. At most 3 ulp. Method: log1p(t + sqrt(t * (t + 2))), t = x - 1."""
    if x < ONE:
        return NAN
    t = x - ONE
    return log(x) + _LN2 if x >= _LARGE else log1p(t + sqrt(t * (t + TWO)))


@device
def atanh(x: f64) -> f64:
    """Inverse hyperbolic tangent; NaN outside -1 .. 1. At most 3 ulp. Method: log1p(2 x / (1 - x)) / 2."""
    size = absolute(x)
    return copysign(log1p((size + size) / (ONE - size)) * HALF, x)
