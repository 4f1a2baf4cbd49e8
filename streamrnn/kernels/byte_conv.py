"""Convolutions with weights of 8 bits, in exact integers: the products of `byte_products` at every position of the output."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i8p, i16p, i32, i32p, i64, i64p, kernel, u8p
from streamrnn.kernels.byte_products import QUAD, UPPER_ZERO, Add, byte_rows, mend, one_part, row_width, two_parts
from streamrnn.kernels.math import round_even
from streamrnn.kernels.simd import LANES

ZERO = np.float32(0)


#: how a filter's inputs become a row of bytes: (n, x, at, offsets, by, seen, to, width)
Gather: TypeAlias = Any


@device
def gather(n: i64, x: i16p, at: i64, offsets: i64p, by: i64, seen: u8p, to: i64, width: i64) -> None:
    """Numbers on the grid that `narrow` describes, both parts. by: 8192."""
    for k in range(n):
        q = np.int64(x[at + offsets[k]]) + by
        seen[to + k] = np.uint8(q >> 7)
        seen[to + width + k] = np.uint8(q & 127)


@device
def gather_bytes(n: i64, x: Any, at: i64, offsets: i64p, by: i64, seen: u8p, to: i64, width: i64) -> None:
    """Bytes of any kind. by: 128 where they are signed, else 0."""
    for k in range(n):
        seen[to + k] = np.uint8(np.int64(x[at + offsets[k]]) + by)


@device
def at_positions(
    see: Gather, add: Add, parts: i64, by: i64, origin: i32,
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64, x_batch: i64, x_group: i64, x_row: i64, x_col: i64,
    use_lack: i64, w: i8p, totals: i32p, lack: i32p, offsets: i64p, x: Any, y: i32p, seen: u8p, sums: i32p,
) -> None:  # fmt: skip
    """See `conv`; parts, by, origin: those of a row of bytes, what `see` adds, what x has too much then."""
    area, part, vectors = height * width, row_width(n), (c_out + LANES - 1) // LANES
    row_bytes, lower = parts * part, part if parts == 2 else 0
    for b in range(batch):
        for g in range(groups):
            first, o, j = (b * groups + g) * c_out * area, g * vectors * QUAD * ((n + 3) // 4), g * vectors * LANES
            for row in range(height):
                for col in range(width):
                    at = b * x_batch + g * x_group + row * x_row + col * x_col
                    see(n, x, at, offsets, by, seen, col * row_bytes, part)
                byte_rows(add, width, n, c_out, w, o, totals, j, origin, seen, 0, row_bytes, lower, sums, 0, c_out)
                if use_lack != 0:
                    mend(width, n, c_out, lack, j, seen, 0, row_bytes, lower, sums, 0, c_out)
                for c in range(c_out):
                    for col in range(width):
                        y[first + c * area + row * width + col] = sums[col * c_out + c]


@kernel
def conv(
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64, x_batch: i64, x_group: i64, x_row: i64, x_col: i64,
    use_lack: i64, w: i8p, totals: i32p, lack: i32p, offsets: i64p, x: i16p, y: i32p, seen: u8p, sums: i32p,
) -> None:  # fmt: skip
    """y [batch][group][c_out][height][width]: each element the n products of a filter and what it sees.

    w, totals, lack: [group], packed as in `byte_products`. Product k meets x[at + offsets[k]], where position (row, col) of a
    group in a batch entry is at b * x_batch + g * x_group + row * x_row + col * x_col; x lies in -8192 .. 8191. Scratch: seen
    [width] rows of bytes, sums [width][c_out].
    """
    at_positions(
        gather, two_parts, 2, 8192, UPPER_ZERO, batch, groups, c_out, n, height, width, x_batch, x_group, x_row, x_col,
        use_lack, w, totals, lack, offsets, x, y, seen, sums,
    )  # fmt: skip


@kernel
def conv_of_bytes(
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64, x_batch: i64, x_group: i64, x_row: i64, x_col: i64,
    by: i64, use_lack: i64, w: i8p, totals: i32p, lack: i32p, offsets: i64p, zero: i32p, x: i8p, y: i32p, seen: u8p, sums: i32p,
) -> None:  # fmt: skip
    """`conv` of bytes of any kind, less zero[0]. by: 128 where they are signed, else 0."""
    at_positions(
        gather_bytes, one_part, 1, by, np.int32(zero[0] + by), batch, groups, c_out, n, height, width, x_batch, x_group, x_row,
        x_col, use_lack, w, totals, lack, offsets, x, y, seen, sums,
    )  # fmt: skip


@kernel
def grid(batch: i64, n: i64, steps: f32, x: f32p, y: i16p, units: f32p) -> None:
    """y = x [batch][n], each entry on the grid on which its largest magnitude is `steps`; units [batch]: those of the grids,
    NaN where an element is NaN or infinite."""
    for b in range(batch):
        top, odd = ZERO, ZERO
        for k in range(b * n, (b + 1) * n):
            size = abs(x[k])
            top = size if size > top else top
            odd += x[k] - x[k]
        scale = steps / top if top > ZERO else ZERO
        for k in range(b * n, (b + 1) * n):
            value = x[k] * scale
            value = value if value > -steps else -steps
            y[k] = np.int16(round_even(value if value < steps else steps))
        units[b] = top / steps + odd


@kernel
def scaled(batch: i64, channels: i64, area: i64, x: i32p, units: f32p, scales: f32p, bias: f32p, y: f32p) -> None:
    """y [batch][channel][area] = x times the units of its entry and the scale of its channel, plus bias."""
    for b in range(batch):
        for c in range(channels):
            unit, first = units[b] * scales[c], (b * channels + c) * area
            for i in range(first, first + area):
                y[i] = np.float32(x[i]) * unit + bias[c]
