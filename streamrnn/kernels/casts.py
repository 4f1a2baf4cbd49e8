"""Scalar functions that change the element type; see `scalar`. `Kernel.typed` makes the other pairs of types.

From a float to an integer the fraction goes. What fits no integer of that width becomes what x86 makes of it: -2**63 for 64
bits and for uint32, else -2**31, cut to the width.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import b1, f16, f32, f64, i32, i64, kernel, u64
from streamrnn.kernels.simd import from_half, to_half

ZERO = np.float32(0)
_I32_END = np.float32(2**31)
_I64_END = np.float32(2**63)
_I32_LOWEST = np.int32(-(2**31))
_I64_LOWEST = np.int64(-(2**63))
_TOP_BIT = np.uint64(2**63)


@kernel
def cast(x: f32) -> f64:
    """To a float from any number, between integers (the low bits are kept)."""
    return x


@kernel
def truncate_i64(x: f32) -> i64:
    return np.int64(x) if x >= -_I64_END and x < _I64_END else _I64_LOWEST


@kernel
def truncate_i32(x: f32) -> i32:
    return np.int32(x) if x >= -_I32_END and x < _I32_END else _I32_LOWEST


@kernel
def truncate_u64(x: f32) -> u64:
    if x >= _I64_END:
        return np.uint64(truncate_i64(x - _I64_END)) ^ _TOP_BIT
    return np.uint64(truncate_i64(x))


@kernel
def nonzero(x: f32) -> b1:
    return x != ZERO


@kernel
def nonzero_int(x: i64) -> b1:
    return x != x - x


@kernel
def widened(x: f16) -> f32:
    return from_half(x)


@kernel
def rounded(x: f32) -> f16:
    """To the nearest float16, ties to even."""
    return to_half(x)
