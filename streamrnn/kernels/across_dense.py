"""Matrix products across streams: 16 streams' values of one element in a vector, each weight broadcast to all of them.

Element i of interleaved memory is the 16 lanes from 16 * i on, one for each stream; sizes and places count elements. Weights
lie as for one stream, and every sum has the order of additions that `dense` has, so each lane holds the bits of its stream.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, kernel
from streamrnn.kernels.simd import LANES, Vec, fma, splat, vload, vstore

ZERO = np.float32(0)

#: how a kernel reads the input of one product of a channel of the tile: (x, at, offsets, k, channel) -> Vec
Reader: TypeAlias = Any
#: distances of the products' inputs, for readers that need them
Offsets: TypeAlias = Any
Four: TypeAlias = tuple[Vec, Vec, Vec, Vec]


@device
def from_lanes(x: f32p, i: i64) -> Vec:
    """Element i of interleaved memory."""
    return vload(x, i * LANES)


@device
def to_lanes(y: f32p, i: i64, v: Vec) -> None:
    """Element i of interleaved memory = v."""
    vstore(y, i * LANES, v)


@device
def from_weights(x: f32p, i: i64) -> Vec:
    """Element i of the weight block, the same for all streams."""
    return splat(x[i])


@device
def adjacent(x: f32p, at: i64, offsets: Offsets, k: i64, channel: i64) -> Vec:
    """The input of product k, where products lie one behind the other."""
    return from_lanes(x, at + k)


@device
def product(
    read: Reader, w: f32p, i: i64, x: f32p, at: i64, offsets: Offsets, k: i64, channel: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec
) -> Four:
    """Product k of four neighbouring channels, whose weights for it begin at w[i]."""
    return (
        fma(splat(w[i]), read(x, at, offsets, k, channel), s0),
        fma(splat(w[i + 1]), read(x, at, offsets, k, channel + 1), s1),
        fma(splat(w[i + 2]), read(x, at, offsets, k, channel + 2), s2),
        fma(splat(w[i + 3]), read(x, at, offsets, k, channel + 3), s3),
    )


@device
def four_channels(read: Reader, n: i64, w: f32p, o: i64, step: i64, x: f32p, at: i64, offsets: Offsets, channel: i64) -> Four:
    """All n products of the channels from `channel` on, whose biases begin at w[o]; those of product k lie step * (1 + k)
    further on."""
    zero, whole = splat(ZERO), n - n % 4
    a0, a1, a2, a3 = splat(w[o]), splat(w[o + 1]), splat(w[o + 2]), splat(w[o + 3])
    b0, b1, b2, b3 = zero, zero, zero, zero
    c0, c1, c2, c3 = zero, zero, zero, zero
    d0, d1, d2, d3 = zero, zero, zero, zero
    for k in range(0, whole, 4):
        i = o + (1 + k) * step
        a0, a1, a2, a3 = product(read, w, i, x, at, offsets, k, channel, a0, a1, a2, a3)
        b0, b1, b2, b3 = product(read, w, i + step, x, at, offsets, k + 1, channel, b0, b1, b2, b3)
        c0, c1, c2, c3 = product(read, w, i + 2 * step, x, at, offsets, k + 2, channel, c0, c1, c2, c3)
        d0, d1, d2, d3 = product(read, w, i + 3 * step, x, at, offsets, k + 3, channel, d0, d1, d2, d3)
    for k in range(whole, n):
        a0, a1, a2, a3 = product(read, w, o + (1 + k) * step, x, at, offsets, k, channel, a0, a1, a2, a3)
    return (a0 + b0) + (c0 + d0), (a1 + b1) + (c1 + d1), (a2 + b2) + (c2 + d2), (a3 + b3) + (c3 + d3)


@device
def one_channel(read: Reader, n: i64, w: f32p, o: i64, step: i64, x: f32p, at: i64, offsets: Offsets, channel: i64) -> Vec:
    """The same for one channel."""
    zero, whole = splat(ZERO), n - n % 4
    a, b, c, d = splat(w[o]), zero, zero, zero
    for k in range(0, whole, 4):
        i = o + (1 + k) * step
        a = fma(splat(w[i]), read(x, at, offsets, k, channel), a)
        b = fma(splat(w[i + step]), read(x, at, offsets, k + 1, channel), b)
        c = fma(splat(w[i + 2 * step]), read(x, at, offsets, k + 2, channel), c)
        d = fma(splat(w[i + 3 * step]), read(x, at, offsets, k + 3, channel), d)
    for k in range(whole, n):
        a = fma(splat(w[o + (1 + k) * step]), read(x, at, offsets, k, channel), a)
    return (a + b) + (c + d)


@device
def some_channels(
    read: Reader,
    count: i64,
    n: i64,
    w: f32p,
    o: i64,
    step: i64,
    x: f32p,
    at: i64,
    offsets: Offsets,
    y: f32p,
    to: i64,
    apart: i64,
) -> None:
    """`count` channels, the first of which has its bias at w[o], to every `apart`-th element of y from `to` on."""
    whole = count - count % 4
    for c in range(0, whole, 4):
        s0, s1, s2, s3 = four_channels(read, n, w, o + c, step, x, at, offsets, c)
        to_lanes(y, to + c * apart, s0)
        to_lanes(y, to + (c + 1) * apart, s1)
        to_lanes(y, to + (c + 2) * apart, s2)
        to_lanes(y, to + (c + 3) * apart, s3)
    for c in range(whole, count):
        to_lanes(y, to + c * apart, one_channel(read, n, w, o + c, step, x, at, offsets, c))


@device
def dense_rows(
    rows: i64, n_in: i64, n_out: i64, w: f32p, first: i64, x: f32p, x_at: i64, y: f32p, y_at: i64, y_row: i64
) -> None:
    """`dense.dense_rows` across streams. Of the weights and the rows of x, those that are fewer are read again and again."""
    n_tiles = (n_out + LANES - 1) // LANES
    for turn in range(n_tiles * rows):
        tile, row = (turn // rows, turn % rows) if n_tiles > rows else (turn % n_tiles, turn // n_tiles)
        o, count = first + tile * LANES * (1 + n_in), min(LANES, n_out - tile * LANES)
        to = y_at + row * y_row + tile * LANES
        some_channels(adjacent, count, n_in, w, o, LANES, x, x_at + row * n_in, x, y, to, 1)


@kernel
def dense(rows: i64, n_in: i64, n_out: i64, w: f32p, x: f32p, y: f32p) -> None:
    """`dense.dense` across streams."""
    dense_rows(rows, n_in, n_out, w, 0, x, 0, y, 0, n_out)


@kernel
def spread(n: i64, x: f32p, y: f32p) -> None:
    """n elements of the weight block into every lane of y."""
    for i in range(n):
        to_lanes(y, i, from_weights(x, i))
