"""Between floats and 8- or 16-bit integers: scalar functions for element loops, and what kernels share.

A number x becomes the integer round(x / scale) + zero, cut to the range of its type; ties go to even.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, i32, kernel, u8
from streamrnn.kernels.math import ONE, ZERO, round_even

#: the range of the integer, exchanged by `Kernel.bind`
lowest = ZERO
highest = np.float32(255)

#: steps of a uint8
_STEPS = np.float32(255)


@kernel
def quantized(x: f32, scale: f32, zero: f32) -> i32:
    """The integer for x; the lowest one for NaN."""
    value = round_even(x / scale) + zero
    value = value if value > lowest else lowest
    return np.int32(value if value < highest else highest)


@device
def grid_scale(low: f32, high: f32) -> f32:
    """The scale with which a uint8 covers low .. high and zero."""
    low = low if low < ZERO else ZERO
    high = high if high > ZERO else ZERO
    return ONE if low == high else (high - low) / _STEPS


@device
def grid_zero(low: f32, scale: f32) -> f32:
    """The zero point that belongs to `grid_scale`."""
    low = low if low < ZERO else ZERO
    zero = ZERO - low / scale
    zero = zero if zero > ZERO else ZERO
    return round_even(zero if zero < _STEPS else _STEPS)


@kernel
def range_scale(low: f32, high: f32) -> f32:
    """`grid_scale` for element loops."""
    return grid_scale(low, high)


@kernel
def range_zero(low: f32, scale: f32) -> u8:
    """`grid_zero` for element loops."""
    return np.uint8(grid_zero(low, scale))
