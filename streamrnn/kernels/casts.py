"""Scalar functions that change the element type; see `scalar`. `Kernel.typed` makes the other pairs of types."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import b1, f32, f64, i32, i64, kernel

ZERO = np.float32(0)
_I32_END = np.float32(2**31)
_I64_END = np.float32(2**63)
_I32_LOWEST = np.int32(-(2**31))
_I64_LOWEST = np.int64(-(2**63))


@kernel
def cast(x: f32) -> f64:
    """To a float from any type, to an integer from a narrower or wider one (which keeps the low bits)."""
    return x


@kernel
def truncate_i64(x: f32) -> i64:
    """Toward zero; -2**63 for what does not fit and for NaN, as x86 does."""
    return np.int64(x) if x >= -_I64_END and x < _I64_END else _I64_LOWEST


@kernel
def truncate_i32(x: f32) -> i32:
    """Toward zero; -2**31 for what does not fit and for NaN, as x86 does."""
    return np.int32(x) if x >= -_I32_END and x < _I32_END else _I32_LOWEST


@kernel
def nonzero(x: f32) -> b1:
    return x != ZERO


@kernel
def nonzero_int(x: i64) -> b1:
    return x != 0
