"""Sample rate conversion of whole signals, for files: a windowed sinc evaluated at the phases of the ratio.

Linear phase and no delay: output n lies at the time of input n * rate_in / rate_out. Flat to 0.9 of the lower rate's Nyquist
frequency, 120 dB down from that frequency on. Source: J. O. Smith, Digital Audio Resampling, ccrma.stanford.edu/~jos/resample;
Kaiser and Schafer 1980 for the window's length and shape.
"""

from __future__ import annotations

import math

import numpy as np

from streamrnn.errors import InputError
from streamrnn.ir.graph import Array

#: rates that are taken, in Hz
RATES = (1, 10_000_000)
_STOPBAND_DB = 120.0
#: edges of the transition band, in Nyquist frequencies of the lower rate
_PASS, _STOP = 0.9, 1.0
#: outputs that are computed at a time; phases of the kernel that are tabulated at most
_CHUNK, _PHASES = 4096, 4096


def resample(signal: Array, rate_in: int, rate_out: int) -> Array:
    """`signal` [frames, ...] at another rate, float32: ceil(frames * rate_out / rate_in) frames. Raises InputError."""
    for rate in (rate_in, rate_out):
        if not RATES[0] <= rate <= RATES[1]:
            raise InputError(f"a sample rate of {rate} Hz cannot be converted; {RATES[0]} to {RATES[1]} Hz can")
    if rate_in == rate_out or not len(signal):
        return np.asarray(signal, np.float32)
    common = math.gcd(rate_in, rate_out)
    up, down = rate_out // common, rate_in // common
    flat = np.asarray(signal, np.float64).reshape(len(signal), -1)
    count = -(-len(flat) * up // down)
    taps = _taps(min(1.0, rate_out / rate_in))
    half = taps // 2
    # frames of zeros around the signal, so that every output has all its taps
    padded = np.concatenate([np.zeros((half, flat.shape[1])), flat, np.zeros((half + 1, flat.shape[1]))])
    # every phase of a simple ratio; of others so many that a line between two of them is as good
    phases = min(up, _PHASES)
    bank = _kernel(np.arange(phases + 1) / phases, taps, rate_in, rate_out)
    result = np.zeros((count, flat.shape[1]), np.float32)
    for start in range(0, count, _CHUNK):
        position = np.arange(start, min(count, start + _CHUNK)) * down
        whole, phase = position // up, position % up
        row, share = np.divmod(phase * phases, up)
        weights = bank[row]
        if phases < up:
            weights = weights + (share / up)[:, None] * (bank[row + 1] - weights)
        seen = padded[whole[:, None] + np.arange(taps)]
        result[start : start + len(position)] = np.einsum("nk,nkc->nc", weights, seen)
    return result.reshape(count, *signal.shape[1:])


def _taps(narrow: float) -> int:
    """Length of the kernel in input frames, for a band `narrow` times that of the input."""
    transition = (_STOP - _PASS) / 2 * narrow
    return 2 * math.ceil((_STOPBAND_DB - 7.95) / (14.36 * transition) / 2)


def _kernel(fraction: Array, taps: int, rate_in: int, rate_out: int) -> Array:
    """Rows of weights for outputs that lie `fraction` of a frame behind tap taps / 2; each row sums to 1."""
    beta = 0.1102 * (_STOPBAND_DB - 8.7)
    cutoff = (_PASS + _STOP) / 2 * min(1.0, rate_out / rate_in)
    distance = np.arange(taps) - taps // 2 - fraction[:, None]
    inside = np.clip(1 - (distance / (taps / 2)) ** 2, 0, None)
    rows = np.sinc(cutoff * distance) * np.i0(beta * np.sqrt(inside)) * (inside > 0)
    found: Array = rows / rows.sum(axis=1, keepdims=True)
    return found
