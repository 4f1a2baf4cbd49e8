"""Scalar functions of element loops: numbers in, one out. The driver inlines them into loops, LLVM makes vectors of them.

Named after the ONNX operator. Where the text fits other element types too, `Kernel.typed` makes them of it; what is said
differently for integers is in `scalar_int`.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import b1, f32, kernel
from streamrnn.kernels.activations import elu as elu_
from streamrnn.kernels.activations import hard_sigmoid as hard_sigmoid_
from streamrnn.kernels.activations import softsign as softsign_
from streamrnn.kernels.math import HALF, INF, ONE, ZERO, absolute
from streamrnn.kernels.math import acosh as acosh_
from streamrnn.kernels.math import asinh as asinh_
from streamrnn.kernels.math import atanh as atanh_
from streamrnn.kernels.math import ceil as ceil_
from streamrnn.kernels.math import cosh as cosh_
from streamrnn.kernels.math import erf as erf_
from streamrnn.kernels.math import exp as exp_
from streamrnn.kernels.math import expm1 as expm1_
from streamrnn.kernels.math import floor as floor_
from streamrnn.kernels.math import fmod as fmod_
from streamrnn.kernels.math import log as log_
from streamrnn.kernels.math import mish as mish_
from streamrnn.kernels.math import round_even as round_even_
from streamrnn.kernels.math import sigmoid as sigmoid_
from streamrnn.kernels.math import sinh as sinh_
from streamrnn.kernels.math import softplus as softplus_
from streamrnn.kernels.math import tanh as tanh_
from streamrnn.kernels.power import power as power_
from streamrnn.kernels.simd import copysign as copysign_
from streamrnn.kernels.simd import sqrt as sqrt_
from streamrnn.kernels.trig import acos as acos_
from streamrnn.kernels.trig import asin as asin_
from streamrnn.kernels.trig import atan as atan_
from streamrnn.kernels.trig import cos as cos_
from streamrnn.kernels.trig import sin as sin_
from streamrnn.kernels.trig import tan as tan_

# -- arithmetic; any number type unless the name says which --------------------------------------------------------


@kernel
def add(a: f32, b: f32) -> f32:
    return a + b


@kernel
def sub(a: f32, b: f32) -> f32:
    return a - b


@kernel
def mul(a: f32, b: f32) -> f32:
    return a * b


@kernel
def div(a: f32, b: f32) -> f32:
    return a / b


@kernel
def fmod(a: f32, b: f32) -> f32:
    return fmod_(a, b)


@kernel
def mod(a: f32, b: f32) -> f32:
    """What is left of a / b, with the sign of b."""
    rest = fmod_(a, b)
    if rest != ZERO and (rest < ZERO) != (b < ZERO):
        return rest + b
    return copysign_(rest, b) if rest == ZERO else rest


@kernel
def power(a: f32, b: f32) -> f32:
    """The exponent may be an integer."""
    return power_(a, np.float32(b))


@kernel
def neg(x: f32) -> f32:
    return -x


@kernel
def abs_real(x: f32) -> f32:
    return absolute(x)


@kernel
def sign(x: f32) -> f32:
    if x > ZERO:
        return ONE
    return -ONE if x < ZERO else x


@kernel
def minimum(a: f32, b: f32) -> f32:
    """The smaller; NaN where one is NaN."""
    return a if a < b or a != a else b


@kernel
def maximum(a: f32, b: f32) -> f32:
    """The larger; NaN where one is NaN."""
    return a if a > b or a != a else b


@kernel
def reciprocal(x: f32) -> f32:
    return ONE / x


@kernel
def round_even(x: f32) -> f32:
    return round_even_(x)


@kernel
def exp(x: f32) -> f32:
    return exp_(x)


@kernel
def log(x: f32) -> f32:
    return log_(x)


@kernel
def sqrt(x: f32) -> f32:
    return sqrt_(x)


@kernel
def floor(x: f32) -> f32:
    return floor_(x)


@kernel
def ceil(x: f32) -> f32:
    return ceil_(x)


@kernel
def sin(x: f32) -> f32:
    return sin_(x)


@kernel
def cos(x: f32) -> f32:
    return cos_(x)


@kernel
def tan(x: f32) -> f32:
    return tan_(x)


@kernel
def asin(x: f32) -> f32:
    return asin_(x)


@kernel
def acos(x: f32) -> f32:
    return acos_(x)


@kernel
def atan(x: f32) -> f32:
    return atan_(x)


@kernel
def sinh(x: f32) -> f32:
    return sinh_(x)


@kernel
def cosh(x: f32) -> f32:
    return cosh_(x)


@kernel
def asinh(x: f32) -> f32:
    return asinh_(x)


@kernel
def acosh(x: f32) -> f32:
    return acosh_(x)


@kernel
def atanh(x: f32) -> f32:
    return atanh_(x)


@kernel
def erf(x: f32) -> f32:
    return erf_(x)


# -- comparison and choice ----------------------------------------------------------------------------------------


@kernel
def equal(a: f32, b: f32) -> b1:
    return a == b


@kernel
def less(a: f32, b: f32) -> b1:
    return a < b


@kernel
def less_or_equal(a: f32, b: f32) -> b1:
    return a <= b


@kernel
def greater(a: f32, b: f32) -> b1:
    return a > b


@kernel
def greater_or_equal(a: f32, b: f32) -> b1:
    return a >= b


@kernel
def logical_and(a: b1, b: b1) -> b1:
    return a & b


@kernel
def logical_or(a: b1, b: b1) -> b1:
    return a | b


@kernel
def logical_xor(a: b1, b: b1) -> b1:
    return a ^ b


@kernel
def logical_not(x: b1) -> b1:
    return not x


@kernel
def where(condition: b1, a: f32, b: f32) -> f32:
    return a if condition else b


@kernel
def isnan(x: f32) -> b1:
    return x != x


@kernel
def isinf(x: f32, negative: f32, positive: f32) -> b1:
    return (x == INF and positive != ZERO) or (x == -INF and negative != ZERO)


# -- activations --------------------------------------------------------------------------------------------------

_INV_SQRT2 = np.float32(0.70710678118654752)
_SQRT_2_PI = np.float32(0.79788456080286536)
_GELU_CUBIC = np.float32(0.044715)
_SIXTH = np.float32(1 / 6)


@kernel
def sigmoid(x: f32) -> f32:
    return sigmoid_(x)


@kernel
def tanh(x: f32) -> f32:
    return tanh_(x)


@kernel
def softplus(x: f32) -> f32:
    return softplus_(x)


@kernel
def softsign(x: f32) -> f32:
    return softsign_(x, ZERO, ZERO)


@kernel
def relu(x: f32) -> f32:
    return ZERO if x < ZERO else x


@kernel
def leaky_relu(x: f32, alpha: f32) -> f32:
    """PRelu too, where alpha is an input."""
    return x * alpha if x < ZERO else x


@kernel
def thresholded_relu(x: f32, alpha: f32) -> f32:
    return x if x > alpha else ZERO


@kernel
def elu(x: f32, alpha: f32) -> f32:
    return elu_(x, alpha, ZERO)


@kernel
def selu(x: f32, alpha: f32, gamma: f32) -> f32:
    return gamma * elu_(x, alpha, ZERO)


@kernel
def celu(x: f32, alpha: f32) -> f32:
    return alpha * expm1_(x / alpha) if x < ZERO else x


@kernel
def hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32:
    return hard_sigmoid_(x, alpha, beta)


@kernel
def hard_swish(x: f32) -> f32:
    return x * hard_sigmoid_(x, _SIXTH, HALF)


@kernel
def swish(x: f32, alpha: f32) -> f32:
    return x / (ONE + exp_(-alpha * x))


@kernel
def mish(x: f32) -> f32:
    return mish_(x)


@kernel
def gelu(x: f32) -> f32:
    return HALF * x * (ONE + erf_(x * _INV_SQRT2))


@kernel
def gelu_tanh(x: f32) -> f32:
    return HALF * x * (ONE + tanh_(_SQRT_2_PI * (x + _GELU_CUBIC * x * x * x)))
