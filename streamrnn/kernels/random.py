"""Random numbers: one generator, and what is made of its bits. The same bits on every CPU, compiled or not.

The generator is SplitMix64 (Steele, Lea and Flood 2014): a counter that moves by a fixed odd step, and a mixing of its 64 bits.
Its state is that counter alone, so a draw costs a handful of integer operations and a snapshot is one number.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i64, i64p, kernel
from streamrnn.kernels.math import exp, log
from streamrnn.kernels.simd import sqrt
from streamrnn.kernels.trig import cos

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)

ZERO = np.float32(0)
TURN = np.float32(2 * np.pi)
_UNIT24 = np.float32(2.0**-24)
_UNIT32 = np.float32(2.0**-32)
_UNIT53 = np.float64(2.0**-53)


@kernel
def generate(n: i64, state: i64p, bits: i64p) -> None:
    """bits = the next n numbers of 64 bits; the state moves on by n."""
    counter = np.uint64(state[0])
    for i in range(n):
        counter = counter + _STEP
        z = counter
        z = (z ^ (z >> _S30)) * _FIRST
        z = (z ^ (z >> _S27)) * _SECOND
        bits[i] = np.int64(z ^ (z >> _S31))
    state[0] = np.int64(counter)


@device
def unit(bits: i64) -> f32:
    """A float64 in [0, 1), all multiples of 2**-53 alike."""
    return np.float64((bits >> 11) & 0x1FFFFFFFFFFFFF) * _UNIT53


@kernel
def uniform(bits: i64, low: f32, high: f32) -> f32:
    """In [low, high); the 2**24 values that it takes are equally spaced."""
    y = low + np.float32((bits >> 40) & 0xFFFFFF) * _UNIT24 * (high - low)
    return y if y < high else low


@kernel
def normal(bits: i64, mean: f32, scale: f32) -> f32:
    """By Box and Muller (1958): 32 bits for the radius, which ends at 6.66 standard deviations, 24 for the angle."""
    radius = sqrt(np.float32(-2) * log(np.float32(((bits >> 32) & 0xFFFFFFFF) + 1) * _UNIT32))
    return mean + scale * (radius * cos(np.float32(bits & 0xFFFFFF) * _UNIT24 * TURN))


@kernel
def bernoulli(bits: i64, p: f32) -> i64:
    """1 with probability p, else 0 (also where p is NaN)."""
    return 1 if unit(bits) < p else 0


@kernel
def multinomial(rows: i64, classes: i64, samples: i64, x: f32p, bits: i64p, weights: f32p, y: i64p) -> None:
    """y [rows][samples]: indices of classes, drawn with probabilities proportional to exp(x [rows][classes]).

    bits: [rows][samples]. weights: [classes] scratch. A row without a finite positive weight gives its last class.
    """
    for r in range(rows):
        at = r * classes
        top = x[at]
        for c in range(1, classes):
            if x[at + c] > top or top != top:
                top = x[at + c]
        total = ZERO
        for c in range(classes):
            w = exp(np.float32(x[at + c] - top))
            weights[c] = w if w > ZERO else ZERO
            total += weights[c]
        for s in range(samples):
            target = np.float32(unit(bits[r * samples + s])) * total
            found = classes - 1
            reached = ZERO
            for c in range(classes):
                if weights[c] > ZERO:
                    found = c
                    reached += weights[c]
                    if reached > target:
                        break
            y[r * samples + s] = found
