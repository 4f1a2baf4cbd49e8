"""Scalar functions of integers; see `scalar`.

Integers of every width are int64 here, and the loop cuts what comes out to its own width again, so that it wraps around as in
that width; uint64 alone has functions or `Kernel.typed` variants of its own. Nothing here can trap.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import f32, i64, kernel, u64
from streamrnn.kernels.casts import truncate_i64
from streamrnn.kernels.power import power as power_

#: bits of the widest integer
_BITS = 64
_BITS_U = np.uint64(64)
#: for uint64: beside a literal, which is signed, Numba would widen it to a float64
_ZERO_U = np.uint64(0)
_ONE_U = np.uint64(1)
_ABOVE = np.float32(1 + 2**-22)


@kernel
def div_int(a: i64, b: i64) -> i64:
    """a / b, rounded toward zero; 0 for b = 0, where the processor would trap."""
    if b == 0:
        return b
    if b == -1:
        return -a
    quotient = a // b
    if quotient < 0 and quotient * b != a:
        quotient += 1
    return quotient


@kernel
def div_unsigned(a: u64, b: u64) -> u64:
    """a / b, rounded down; 0 for b = 0."""
    return b if b == _ZERO_U else a // b


@kernel
def mod_int(a: i64, b: i64) -> i64:
    """What is left of a / b, with the sign of b; 0 for b = 0."""
    if b == 0 or b == -1:
        return a - a
    return a % b


@kernel
def mod_unsigned(a: u64, b: u64) -> u64:
    """What is left of a / b; 0 for b = 0."""
    return b if b == _ZERO_U else a % b


@kernel
def fmod_int(a: i64, b: i64) -> i64:
    """What is left of a / b, with the sign of a; 0 for b = 0."""
    if b == 0 or b == -1:
        return a - a
    rest = a % b
    if rest != 0 and (a < 0) != (b < 0):
        rest -= b
    return rest


@kernel
def power_int(a: i64, b: i64) -> i64:
    """a ** b as far as it fits; for b below 0 what is left of the fraction toward zero, and 0 for a = 0."""
    if b < 0:
        return 1 if a == 1 or (a == -1 and b % 2 == 0) else (-1 if a == -1 else 0)
    result, base, rest = np.int64(1), a, b
    while rest > 0:
        if rest % 2 == 1:
            result = result * base
        base = base * base
        rest //= 2
    return result


@kernel
def power_real(a: i64, b: f32) -> i64:
    """a ** b for an exponent that need not be whole, rounded toward zero. What is less than two units in the last place of a
    float32 below a whole number counts as that number."""
    whole = truncate_i64(b)
    if np.float32(whole) == b:
        return power_int(a, whole)
    return truncate_i64(power_(np.float32(a), b) * _ABOVE)


@kernel
def abs_plain(x: i64) -> i64:
    return x if x > 0 else 0 - x


@kernel
def sign_int(x: i64) -> i64:
    if x > 0:
        return 1
    return -1 if x < 0 else 0


@kernel
def sign_unsigned(x: u64) -> u64:
    return _ONE_U if x > _ZERO_U else _ZERO_U


@kernel
def bitwise_and(a: i64, b: i64) -> i64:
    return a & b


@kernel
def bitwise_or(a: i64, b: i64) -> i64:
    return a | b


@kernel
def bitwise_xor(a: i64, b: i64) -> i64:
    return a ^ b


@kernel
def bitwise_not(x: i64) -> i64:
    return ~x


@kernel
def relu_int(x: i64) -> i64:
    return x if x > 0 else 0


@kernel
def shift_left(x: i64, n: i64) -> i64:
    """x without the bits that leave at the top; 0 where n is below 0 or not below the width."""
    return x << n if 0 <= n < _BITS else x - x


@kernel
def shift_right(x: i64, n: i64) -> i64:
    """x / 2 ** n, rounded down; what the sign alone leaves (-1 or 0) where n is below 0 or not below the width."""
    return x >> n if 0 <= n < _BITS else x >> _BITS - 1 >> 1


@kernel
def shift_left_unsigned(x: u64, n: u64) -> u64:
    """x without the bits that leave at the top; 0 where n is not below the width."""
    return x << n if n < _BITS_U else _ZERO_U


@kernel
def shift_right_unsigned(x: u64, n: u64) -> u64:
    """x / 2 ** n, rounded down."""
    return x >> n if n < _BITS_U else _ZERO_U
