"""Convolution: 16 output channels or 16 output positions at a time, several vectors in flight.

Common to both kernels. A product k of n is one (input channel, row, column) of the filter; it meets the input at
`x[at + offsets[k]]`, where `at` belongs to the output position. Every output element is the sum that `dense` describes,
whichever kernel and however many positions.

    x   rows of the input: position (row, col) of group g in batch entry b starts at b * x_batch + g * x_group + row * x_row
        + col * x_col; what the filter may touch outside the clip was put there by `place`
    y   element (b, channel, row, col) at b * y_batch + channel * y_channel + row * y_row + col * y_col
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, i64p, kernel
from streamrnn.kernels.dense import Eight, Four, adjacent, four_positions, one_position, two_positions
from streamrnn.kernels.frames import Frames, over_frames
from streamrnn.kernels.simd import LANES, Vec, fma, one_register, splat, store_lanes, vload, vstore

__all__ = ["adjacent", "conv_channels", "conv_positions", "own_channel", "place", "scattered"]

ZERO = np.float32(0)


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


@over_frames(Frames("width", {}, {"x": "x_col", "y": "y_col"}, scratch=("lanes",), only={"batch": 1, "height": 1, "width": 1}))
@kernel
def conv_channels(
    batch: i64, groups: i64, c_out: i64, total: i64, n: i64, height: i64, width: i64,
    x_batch: i64, x_group: i64, x_row: i64, x_col: i64, y_batch: i64, y_channel: i64, y_row: i64, y_col: i64,
    w: f32p, offsets: i64p, x: f32p, y: f32p, lanes: f32p,
) -> None:  # fmt: skip
    """Sixteen output channels of a group at a time: at four or two neighbouring positions, or the partial sums of one.

    w: [group][tile][bias, then n products][16]. total: channels of all groups. lanes: [16] scratch.
    """
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
                        s0, s1, s2, s3 = four_positions(operand, w, o, x, at, x_col, offsets, n, bias)
                        store_lanes_apart(y, to, y_channel, left, s0, lanes)
                        store_lanes_apart(y, to + y_col, y_channel, left, s1, lanes)
                        store_lanes_apart(y, to + 2 * y_col, y_channel, left, s2, lanes)
                        store_lanes_apart(y, to + 3 * y_col, y_channel, left, s3, lanes)
                        at += 4 * x_col
                        to += 4 * y_col
                    if width % 4 >= 2:
                        s0, s1 = two_positions(operand, w, o, x, at, x_col, offsets, n, bias)
                        store_lanes_apart(y, to, y_channel, left, s0, lanes)
                        store_lanes_apart(y, to + y_col, y_channel, left, s1, lanes)
                        at += 2 * x_col
                        to += 2 * y_col
                    if width % 2 == 1:
                        s0 = one_position(operand, w, o, x, at, offsets, n, bias)
                        store_lanes_apart(y, to, y_channel, left, s0, lanes)
                o += (1 + n) * LANES


@device
def channel_product(w: f32p, i: i64, v: Vec, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> Four:
    """One product of four channels, for one vector of positions."""
    return fma(splat(w[i]), v, s0), fma(splat(w[i + 1]), v, s1), fma(splat(w[i + 2]), v, s2), fma(splat(w[i + 3]), v, s3)


@device
def two_channel_sums(
    w: f32p, o: i64, x: f32p, at: i64, offsets: i64p, first: i64, whole: i64, b0: Vec, b1: Vec, b2: Vec, b3: Vec
) -> Eight:
    """Partial sums `first`, begun with b0 .. b3, and `first` + 1 of four channels, over the products below `whole`."""
    zero = splat(ZERO)
    s0, s1, s2, s3 = b0, b1, b2, b3
    t0, t1, t2, t3 = zero, zero, zero, zero
    if one_register():
        for k in range(first, whole, 4):
            s0, s1, s2, s3 = channel_product(w, o + 4 * k, vload(x, at + offsets[k]), s0, s1, s2, s3)
            t0, t1, t2, t3 = channel_product(w, o + 4 * k + 4, vload(x, at + offsets[k + 1]), t0, t1, t2, t3)
    else:
        for k in range(first, whole, 4):
            s0, s1, s2, s3 = channel_product(w, o + 4 * k, vload(x, at + offsets[k]), s0, s1, s2, s3)
        for k in range(first + 1, whole, 4):
            t0, t1, t2, t3 = channel_product(w, o + 4 * k, vload(x, at + offsets[k]), t0, t1, t2, t3)
    return s0, s1, s2, s3, t0, t1, t2, t3


@device
def four_channels(w: f32p, o: i64, x: f32p, at: i64, offsets: i64p, n: i64) -> Four:
    """All n products of four channels, for one vector of positions. w[o] is the bias of the first channel."""
    whole = n - n % 4
    zero = splat(ZERO)
    b0, b1, b2, b3 = splat(w[o]), splat(w[o + 1]), splat(w[o + 2]), splat(w[o + 3])
    i = o + 4
    s0, s1, s2, s3, t0, t1, t2, t3 = two_channel_sums(w, i, x, at, offsets, 0, whole, b0, b1, b2, b3)
    for k in range(whole, n):
        s0, s1, s2, s3 = channel_product(w, i + 4 * k, vload(x, at + offsets[k]), s0, s1, s2, s3)
    s0, s1, s2, s3 = s0 + t0, s1 + t1, s2 + t2, s3 + t3
    t0, t1, t2, t3, u0, u1, u2, u3 = two_channel_sums(w, i, x, at, offsets, 2, whole, zero, zero, zero, zero)
    return s0 + (t0 + u0), s1 + (t1 + u1), s2 + (t2 + u2), s3 + (t3 + u3)


@device
def one_channel(w: f32p, o: i64, x: f32p, at: i64, offsets: i64p, n: i64, bias: Vec) -> Vec:
    """All n products of one channel, for one vector of positions."""
    whole = n - n % 4
    zero = splat(ZERO)
    s0, s1, s2, s3 = bias, zero, zero, zero
    for k in range(0, whole, 4):
        s0 = fma(splat(w[o + k]), vload(x, at + offsets[k]), s0)
        s1 = fma(splat(w[o + k + 1]), vload(x, at + offsets[k + 1]), s1)
        s2 = fma(splat(w[o + k + 2]), vload(x, at + offsets[k + 2]), s2)
        s3 = fma(splat(w[o + k + 3]), vload(x, at + offsets[k + 3]), s3)
    for k in range(whole, n):
        s0 = fma(splat(w[o + k]), vload(x, at + offsets[k]), s0)
    return (s0 + s1) + (s2 + s3)


@kernel
def conv_positions(
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64,
    x_batch: i64, x_group: i64, x_row: i64, y_batch: i64, y_channel: i64, y_row: i64, y_col: i64,
    w: f32p, offsets: i64p, x: f32p, y: f32p, lanes: f32p,
) -> None:  # fmt: skip
    """Sixteen neighbouring positions of a row at a time: for four channels of a group, or the four partial sums of one.

    Neighbouring positions are neighbours in x (x_col is 1). width is at least 16; the last vector of a row overlaps the one
    before it. w: [group][block of 4 channels][bias, then n products][4], then [channel][bias, then n products] for the rest.
    lanes: [16] scratch.
    """
    n_tiles = (width + LANES - 1) // LANES
    blocks = c_out // 4
    for b in range(batch):
        for g in range(groups):
            first = g * (c_out * (1 + n))
            for row in range(height):
                for tile in range(n_tiles):
                    col = min(tile * LANES, width - LANES)
                    at = b * x_batch + g * x_group + row * x_row + col
                    to = b * y_batch + g * c_out * y_channel + row * y_row + col * y_col
                    o = first
                    for _ in range(blocks):
                        s0, s1, s2, s3 = four_channels(w, o, x, at, offsets, n)
                        store_lanes_apart(y, to, y_col, LANES, s0, lanes)
                        store_lanes_apart(y, to + y_channel, y_col, LANES, s1, lanes)
                        store_lanes_apart(y, to + 2 * y_channel, y_col, LANES, s2, lanes)
                        store_lanes_apart(y, to + 3 * y_channel, y_col, LANES, s3, lanes)
                        o += 4 * (1 + n)
                        to += 4 * y_channel
                    for _ in range(c_out - 4 * blocks):
                        s0 = one_channel(w, o + 1, x, at, offsets, n, splat(w[o]))
                        store_lanes_apart(y, to, y_col, LANES, s0, lanes)
                        o += 1 + n
                        to += y_channel


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
                for i in range(min(stride, width)):
                    p = left + i
                    to = target + r * y_row + p % stride * y_phase + p // stride * y_col
                    for k in range(i, width, stride):
                        y[to] = x[source + r * x_row + k * x_col]
                        to += y_col
