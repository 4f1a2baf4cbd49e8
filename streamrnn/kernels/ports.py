"""Moving frames between the caller and the arena."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrnn.kernels._jit import b1, device, f32p, i64, kernel, u8p

ZERO = np.float32(0)
#: bits of the exponent of a float16
_EXPONENT = np.uint16(0x7C00)


@device
def finite(x: Any) -> b1:
    return x - x == ZERO


@device
def finite_half(bits: Any) -> b1:
    """`finite` for the bits of a float16."""
    return bits & _EXPONENT != _EXPONENT


@kernel
def nonfinite(n: i64, x: f32p) -> i64:
    """How many of x[0 .. n] are NaN or Inf."""
    count = 0
    for i in range(n):
        count += not finite(x[i])
    return count


@kernel
def take_finite(n: i64, hold: i64, x: f32p, held: f32p) -> None:
    """held = x, where an element that is not finite becomes the value held before (hold = 1) or zero (hold = 0)."""
    for i in range(n):
        if finite(x[i]):
            held[i] = x[i]
        elif hold == 0:
            held[i] = 0


@kernel
def give_frames(outer: i64, frames: i64, inner: i64, skip: i64, latest: i64, x: u8p, y: u8p) -> None:
    """y = x, both [outer][frames][inner] bytes, with zeros for the first `skip` frames, which are filler.

    latest: 0, or the number of frames of a step where x is one answer for all of them: zeros until one frame is valid.
    """
    for o in range(outer):
        for f in range(frames):
            at = (o * frames + f) * inner
            if f < skip or (latest > 0 and skip >= latest):
                for i in range(inner):
                    y[at + i] = 0
            else:
                for i in range(inner):
                    y[at + i] = x[at + i]
