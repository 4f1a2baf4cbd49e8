"""Convolution: 16 output channels or 16 output positions at a time, four vectors in flight.

Common to both kernels. A product k of n is one (input channel, row, column) of the filter; it meets the input at
`x[at + offsets[k]]`, where `at` belongs to the output position. Every output element is one fixed sum, whichever kernel and
however many positions: the products are cut into four runs of n // 4, the n % 4 last ones go onto the first run, which starts
from the bias, and the result is (run 0 + run 1) + (run 2 + run 3).

    x   rows of the input: position (row, col) of group g in batch entry b starts at b * x_batch + g * x_group + row * x_row
        + col * x_col; what the filter may touch outside the clip was put there by `place`
    y   element (b, channel, row, col) at b * y_batch + channel * y_channel + row * y_row + col * y_col
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, i64p, kernel
from streamrnn.kernels.cells import store_lanes
from streamrnn.kernels.simd import LANES, Vec, fma, splat, vload, vstore

ZERO = np.float32(0)

#: how a kernel reads the input of one product
Reader: TypeAlias = Any
Four: TypeAlias = tuple[Vec, Vec, Vec, Vec]


@device
def adjacent(x: f32p, at: i64, offsets: i64p, k: i64) -> Vec:
    """The input of product k in all lanes, where products lie one behind the other: a step of a stream, a dense layer."""
    return splat(x[at + k])


@device
def scattered(x: f32p, at: i64, offsets: i64p, k: i64) -> Vec:
    """The input of product k in all lanes."""
    return splat(x[at + offsets[k]])


@device
def own_channel(x: f32p, at: i64, offsets: i64p, k: i64) -> Vec:
    """Sixteen neighbouring channels, for depthwise filters: each lane has an input of its own."""
    return vload(x, at + offsets[k])


#: how `conv_channels` reads x; exchanged by `Kernel.bind`
operand = scattered


@device
def store_lanes_apart(y: f32p, at: i64, step: i64, n: i64, v: Vec, lanes: f32p) -> None:
    """The first n lanes of v to every step-th element from y[at]."""
    if step == 1:
        store_lanes(y, at, n, v)
    else:
        vstore(lanes, 0, v)
        for i in range(min(n, LANES)):
            y[at + i * step] = lanes[i]


@device
def four_positions(
    read: Reader, w: f32p, o: i64, x: f32p, at: i64, step: i64, offsets: i64p, begin: i64, end: i64,
    s0: Vec, s1: Vec, s2: Vec, s3: Vec,
) -> Four:  # fmt: skip
    """Products begin .. end of four positions, added to four vectors of channels. w[o] is product 0."""
    for k in range(begin, end):
        v = vload(w, o + k * LANES)
        s0 = fma(v, read(x, at, offsets, k), s0)
        s1 = fma(v, read(x, at + step, offsets, k), s1)
        s2 = fma(v, read(x, at + 2 * step, offsets, k), s2)
        s3 = fma(v, read(x, at + 3 * step, offsets, k), s3)
    return s0, s1, s2, s3


@device
def four_runs(read: Reader, w: f32p, o: i64, x: f32p, at: i64, offsets: i64p, n: i64, bias: Vec) -> Vec:
    """All n products of one position, for one vector of channels."""
    q = n // 4
    zero = splat(ZERO)
    s0, s1, s2, s3 = bias, zero, zero, zero
    for k in range(q):
        i = o + k * LANES
        s0 = fma(vload(w, i), read(x, at, offsets, k), s0)
        s1 = fma(vload(w, i + q * LANES), read(x, at, offsets, k + q), s1)
        s2 = fma(vload(w, i + 2 * q * LANES), read(x, at, offsets, k + 2 * q), s2)
        s3 = fma(vload(w, i + 3 * q * LANES), read(x, at, offsets, k + 3 * q), s3)
    for k in range(4 * q, n):
        s0 = fma(vload(w, o + k * LANES), read(x, at, offsets, k), s0)
    return (s0 + s1) + (s2 + s3)


@kernel
def conv_channels(
    batch: i64, groups: i64, c_out: i64, total: i64, n: i64, height: i64, width: i64,
    x_batch: i64, x_group: i64, x_row: i64, x_col: i64, y_batch: i64, y_channel: i64, y_row: i64, y_col: i64,
    w: f32p, offsets: i64p, x: f32p, y: f32p, lanes: f32p,
) -> None:  # fmt: skip
    """Sixteen output channels of a group at a time: at four neighbouring positions, or the four runs of one.

    w: [group][tile][bias, then n products][16]. total: channels of all groups. lanes: [16] scratch.
    """
    q = n // 4
    zero = splat(ZERO)
    for b in range(batch):
        o = LANES
        for g in range(groups):
            for first in range(0, c_out, LANES):
                left = min(c_out - first, total - g * c_out - first)
                bias = vload(w, o - LANES)
                for row in range(height):
                    at = b * x_batch + g * x_group + row * x_row
                    to = b * y_batch + (g * c_out + first) * y_channel + row * y_row
                    blocks = width // 4
                    for _ in range(blocks):
                        s0, s1, s2, s3 = four_positions(operand, w, o, x, at, x_col, offsets, 0, q, bias, bias, bias, bias)
                        s0, s1, s2, s3 = four_positions(operand, w, o, x, at, x_col, offsets, 4 * q, n, s0, s1, s2, s3)
                        t0, t1, t2, t3 = four_positions(operand, w, o, x, at, x_col, offsets, q, 2 * q, zero, zero, zero, zero)
                        s0, s1, s2, s3 = s0 + t0, s1 + t1, s2 + t2, s3 + t3
                        t0, t1, t2, t3 = four_positions(
                            operand, w, o, x, at, x_col, offsets, 2 * q, 3 * q, zero, zero, zero, zero
                        )
                        u0, u1, u2, u3 = four_positions(
                            operand, w, o, x, at, x_col, offsets, 3 * q, 4 * q, zero, zero, zero, zero
                        )
                        store_lanes_apart(y, to, y_channel, left, s0 + (t0 + u0), lanes)
                        store_lanes_apart(y, to + y_col, y_channel, left, s1 + (t1 + u1), lanes)
                        store_lanes_apart(y, to + 2 * y_col, y_channel, left, s2 + (t2 + u2), lanes)
                        store_lanes_apart(y, to + 3 * y_col, y_channel, left, s3 + (t3 + u3), lanes)
                        at += 4 * x_col
                        to += 4 * y_col
                    for _ in range(width - 4 * blocks):
                        s0 = four_runs(operand, w, o, x, at, offsets, n, bias)
                        store_lanes_apart(y, to, y_channel, left, s0, lanes)
                        at += x_col
                        to += y_col
                o += (1 + n) * LANES


@device
def four_channels(
    w: f32p, o: i64, x: f32p, at: i64, offsets: i64p, begin: i64, end: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec
) -> Four:
    """Products begin .. end of four channels, added to four vectors of positions. w[o] is product 0 of the first channel."""
    for k in range(begin, end):
        v = vload(x, at + offsets[k])
        i = o + 4 * k
        s0 = fma(splat(w[i]), v, s0)
        s1 = fma(splat(w[i + 1]), v, s1)
        s2 = fma(splat(w[i + 2]), v, s2)
        s3 = fma(splat(w[i + 3]), v, s3)
    return s0, s1, s2, s3


@device
def one_channel(w: f32p, o: i64, x: f32p, at: i64, offsets: i64p, n: i64, bias: Vec) -> Vec:
    """All n products of one channel, for one vector of positions."""
    q = n // 4
    zero = splat(ZERO)
    s0, s1, s2, s3 = bias, zero, zero, zero
    for k in range(q):
        s0 = fma(splat(w[o + k]), vload(x, at + offsets[k]), s0)
        s1 = fma(splat(w[o + k + q]), vload(x, at + offsets[k + q]), s1)
        s2 = fma(splat(w[o + k + 2 * q]), vload(x, at + offsets[k + 2 * q]), s2)
        s3 = fma(splat(w[o + k + 3 * q]), vload(x, at + offsets[k + 3 * q]), s3)
    for k in range(4 * q, n):
        s0 = fma(splat(w[o + k]), vload(x, at + offsets[k]), s0)
    return (s0 + s1) + (s2 + s3)


@kernel
def conv_positions(
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64,
    x_batch: i64, x_group: i64, x_row: i64, y_batch: i64, y_channel: i64, y_row: i64, y_col: i64,
    w: f32p, offsets: i64p, x: f32p, y: f32p, lanes: f32p,
) -> None:  # fmt: skip
    """Sixteen neighbouring positions of a row at a time: for four channels of a group, or the four runs of one.

    Neighbouring positions are neighbours in x (x_col is 1). width is at least 16; the last vector of a row overlaps the one
    before it. w: [group][block of 4 channels][bias, then n products][4], then [channel][bias, then n products] for the rest.
    lanes: [16] scratch.
    """
    q = n // 4
    zero = splat(ZERO)
    n_tiles = (width + LANES - 1) // LANES
    blocks = c_out // 4
    for b in range(batch):
        o = 0
        for g in range(groups):
            for block in range(blocks):
                i = o + 4
                for row in range(height):
                    for tile in range(n_tiles):
                        col = min(tile * LANES, width - LANES)
                        at = b * x_batch + g * x_group + row * x_row + col
                        to = b * y_batch + (g * c_out + 4 * block) * y_channel + row * y_row + col * y_col
                        b0, b1, b2, b3 = splat(w[o]), splat(w[o + 1]), splat(w[o + 2]), splat(w[o + 3])
                        s0, s1, s2, s3 = four_channels(w, i, x, at, offsets, 0, q, b0, b1, b2, b3)
                        s0, s1, s2, s3 = four_channels(w, i, x, at, offsets, 4 * q, n, s0, s1, s2, s3)
                        t0, t1, t2, t3 = four_channels(w, i, x, at, offsets, q, 2 * q, zero, zero, zero, zero)
                        s0, s1, s2, s3 = s0 + t0, s1 + t1, s2 + t2, s3 + t3
                        t0, t1, t2, t3 = four_channels(w, i, x, at, offsets, 2 * q, 3 * q, zero, zero, zero, zero)
                        u0, u1, u2, u3 = four_channels(w, i, x, at, offsets, 3 * q, 4 * q, zero, zero, zero, zero)
                        store_lanes_apart(y, to, y_col, LANES, s0 + (t0 + u0), lanes)
                        store_lanes_apart(y, to + y_channel, y_col, LANES, s1 + (t1 + u1), lanes)
                        store_lanes_apart(y, to + 2 * y_channel, y_col, LANES, s2 + (t2 + u2), lanes)
                        store_lanes_apart(y, to + 3 * y_channel, y_col, LANES, s3 + (t3 + u3), lanes)
                o += 4 * (1 + n)
            for channel in range(4 * blocks, c_out):
                for row in range(height):
                    for tile in range(n_tiles):
                        col = min(tile * LANES, width - LANES)
                        at = b * x_batch + g * x_group + row * x_row + col
                        to = b * y_batch + (g * c_out + channel) * y_channel + row * y_row + col * y_col
                        s0 = one_channel(w, o + 1, x, at, offsets, n, splat(w[o]))
                        store_lanes_apart(y, to, y_col, LANES, s0, lanes)
                o += 1 + n


@kernel
def place(
    batch: i64, channels: i64, share: i64, height: i64, width: i64, top: i64, left: i64, stride: i64, size: i64,
    x_row: i64, x_col: i64, y_batch: i64, y_channel: i64, y_row: i64, y_phase: i64, y_col: i64, x: f32p, y: f32p,
) -> None:  # fmt: skip
    """x [batch][channels / share][height x width, at x_row and x_col] into `size` zeros, in the order a convolution wants.

    Row r comes to row top + r. Column c comes to p = left + c, which lies at p % stride * y_phase + p // stride * y_col: a
    filter of that stride then meets neighbouring positions side by side. `share` channels of y repeat one of x.
    """
    for i in range(size):
        y[i] = ZERO
    area = height * width
    for b in range(batch):
        for c in range(channels):
            source = (b * (channels // share) + c // share) * area
            target = b * y_batch + c * y_channel + top * y_row
            for r in range(height):
                for i in range(width):
                    p = left + i
                    to = target + r * y_row + p % stride * y_phase + p // stride * y_col
                    y[to] = x[source + r * x_row + i * x_col]
