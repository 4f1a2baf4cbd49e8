"""Convolutions across streams; parameters are those of `conv`, memory is that of `across_dense`."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, i64p, kernel
from streamrnn.kernels.across_dense import from_lanes, some_channels, to_lanes
from streamrnn.kernels.simd import LANES, Vec, splat

ZERO = np.float32(0)


@device
def scattered(x: f32p, at: i64, offsets: i64p, k: i64, channel: i64) -> Vec:
    """`conv.scattered`."""
    return from_lanes(x, at + offsets[k])


@device
def own_channel(x: f32p, at: i64, offsets: i64p, k: i64, channel: i64) -> Vec:
    """`conv.own_channel`."""
    return from_lanes(x, at + offsets[k] + channel)


#: how `conv_channels` reads x; exchanged by `Kernel.bind`
operand = scattered


@kernel
def conv_channels(
    batch: i64, groups: i64, c_out: i64, total: i64, n: i64, height: i64, width: i64,
    x_batch: i64, x_group: i64, x_row: i64, x_col: i64, y_batch: i64, y_channel: i64, y_row: i64, y_col: i64,
    w: f32p, offsets: i64p, x: f32p, y: f32p, lanes: f32p,
) -> None:  # fmt: skip
    """`conv.conv_channels` across streams."""
    for b in range(batch):
        o = 0
        for g in range(groups):
            for first in range(0, c_out, LANES):
                count = min(LANES, min(c_out - first, total - g * c_out - first))
                for row in range(height):
                    at = b * x_batch + g * x_group + row * x_row
                    to = b * y_batch + (g * c_out + first) * y_channel + row * y_row
                    for _ in range(width):
                        some_channels(operand, count, n, w, o, LANES, x, at, offsets, y, to, y_channel)
                        at += x_col
                        to += y_col
                o += (1 + n) * LANES


@kernel
def conv_positions(
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64,
    x_batch: i64, x_group: i64, x_row: i64, y_batch: i64, y_channel: i64, y_row: i64, y_col: i64,
    w: f32p, offsets: i64p, x: f32p, y: f32p, lanes: f32p,
) -> None:  # fmt: skip
    """`conv.conv_positions` across streams."""
    for b in range(batch):
        o = 0
        for g in range(groups):
            first = 0
            while first < c_out:
                count = 4 if first + 4 <= c_out else 1
                for row in range(height):
                    at = b * x_batch + g * x_group + row * x_row
                    to = b * y_batch + (g * c_out + first) * y_channel + row * y_row
                    for col in range(width):
                        some_channels(scattered, count, n, w, o, count, x, at + col, offsets, y, to + col * y_col, y_channel)
                o += count * (1 + n)
                first += count


@kernel
def place(
    batch: i64, channels: i64, share: i64, height: i64, width: i64, top: i64, left: i64, stride: i64, size: i64,
    x_row: i64, x_col: i64, y_batch: i64, y_channel: i64, y_row: i64, y_phase: i64, y_col: i64, x: f32p, y: f32p,
) -> None:  # fmt: skip
    """`conv.place` across streams."""
    for i in range(size):
        to_lanes(y, i, splat(ZERO))
    area = height * width
    for b in range(batch):
        for c in range(channels):
            source = (b * (channels // share) + c // share) * area
            target = b * y_batch + c * y_channel + top * y_row
            for r in range(height):
                for i in range(width):
                    p = left + i
                    to = target + r * y_row + p % stride * y_phase + p // stride * y_col
                    to_lanes(y, to, from_lanes(x, source + r * x_row + i * x_col))
