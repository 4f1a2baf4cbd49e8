"""Matrix products with weights of 8 bits, in exact integers.

    x       rows of bytes, `x_row` apart: the n activations as uint8; or, on the grid that `narrow` describes, their upper parts
            and, `width` behind, their lower ones
    w       [block][k / 4][4 vectors][16][4], then [vector][k / 4][16][4] for the vectors of the last, incomplete block; a
            vector is 16 outputs, and weights behind n are zero
    totals  [vector][16]: the sum of an output's weights; `zero` times that is taken off, which is what x has too much
    lack    [vector][16]: what the bytes of an output's weights have too little, where weights less their zero points do not fit
            8 bits; read where use_lack is 1

`width` is n up to a multiple of 16.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i8p, i32, i32p, i64, kernel, u8p
from streamrnn.kernels.frames import Frames, over_frames
from streamrnn.kernels.narrow import (
    UPPER_OFFSET,
    Ints,
    dot4,
    joined,
    larger,
    load_ints,
    no_ints,
    peak,
    store_grid,
    store_ints,
    times,
    to_real,
)
from streamrnn.kernels.simd import LANES, above, below, fma, load_lanes, one_register, splat, store_lanes, vload

QUAD = 4 * LANES
ZERO = np.float32(0)
#: what the upper parts of activations on their grid have too much
UPPER_ZERO = np.int32(UPPER_OFFSET)
#: -8192, the least number on the grid, as a float
LEAST = np.float32(-8192)

Four: TypeAlias = tuple[Ints, Ints, Ints, Ints]
#: how 4 products go onto the sums of both parts: `two_parts`, or `one_part` where x has one
Add: TypeAlias = Any


@device
def row_width(n: i64) -> i64:
    """Bytes of one part of a row."""
    return (n + LANES - 1) // LANES * LANES


@device
def two_parts(u: Ints, v: Ints, x: u8p, at: i64, width: i64, w: i8p, i: i64) -> tuple[Ints, Ints]:
    """Upper and lower parts."""
    return dot4(u, x, at, w, i), dot4(v, x, at + width, w, i)


@device
def one_part(u: Ints, v: Ints, x: u8p, at: i64, width: i64, w: i8p, i: i64) -> tuple[Ints, Ints]:
    """Bytes that are numbers by themselves; v stays zero."""
    return dot4(u, x, at, w, i), v


@device
def whole(u: Ints, v: Ints, width: i64) -> Ints:
    """The sums from those of the parts; width is 0 where x has one part."""
    return u if width == 0 else joined(u, v)


@device
def one_vector(add: Add, n: i64, w: i8p, o: i64, step: i64, x: u8p, at: i64, width: i64, begun: Ints) -> Ints:
    """The sums of 16 outputs, whose weights are `step` apart from w[o] on."""
    u, v = begun, no_ints()
    for k in range(0, n, 4):
        u, v = add(u, v, x, at + k, width, w, o + k // 4 * step)
    return whole(u, v, width)


@device
def four_vectors(add: Add, n: i64, w: i8p, o: i64, x: u8p, at: i64, width: i64, totals: i32p, b: i64, zero: i32) -> Four:
    """The sums of the 64 outputs of a block."""
    u0, u1 = times(load_ints(totals, b), -zero), times(load_ints(totals, b + LANES), -zero)
    u2, u3 = times(load_ints(totals, b + 2 * LANES), -zero), times(load_ints(totals, b + 3 * LANES), -zero)
    if not one_register():
        step = 4 * QUAD
        return (
            one_vector(add, n, w, o, step, x, at, width, u0),
            one_vector(add, n, w, o + QUAD, step, x, at, width, u1),
            one_vector(add, n, w, o + 2 * QUAD, step, x, at, width, u2),
            one_vector(add, n, w, o + 3 * QUAD, step, x, at, width, u3),
        )
    v0, v1, v2, v3 = no_ints(), no_ints(), no_ints(), no_ints()
    for k in range(0, n, 4):
        i = o + k * QUAD
        u0, v0 = add(u0, v0, x, at + k, width, w, i)
        u1, v1 = add(u1, v1, x, at + k, width, w, i + QUAD)
        u2, v2 = add(u2, v2, x, at + k, width, w, i + 2 * QUAD)
        u3, v3 = add(u3, v3, x, at + k, width, w, i + 3 * QUAD)
    return whole(u0, v0, width), whole(u1, v1, width), whole(u2, v2, width), whole(u3, v3, width)


@device
def byte_rows(
    add: Add, rows: i64, n: i64, n_out: i64, w: i8p, o: i64, totals: i32p, b: i64, zero: i32,
    x: u8p, at: i64, x_row: i64, width: i64, y: i32p, to: i64, y_row: i64,
) -> None:  # fmt: skip
    """y [rows][n_out], `y_row` apart from y[to] on = x [rows], from x[at] on, times the weights from w[o] and totals[b] on.
    width: 0 where x has one part."""
    quads = (n + 3) // 4
    blocks = n_out // QUAD * QUAD
    for first in range(0, blocks, QUAD):
        for row in range(rows):
            i = to + row * y_row + first
            s0, s1, s2, s3 = four_vectors(add, n, w, o, x, at + row * x_row, width, totals, b + first, zero)
            store_ints(y, i, LANES, s0)
            store_ints(y, i + LANES, LANES, s1)
            store_ints(y, i + 2 * LANES, LANES, s2)
            store_ints(y, i + 3 * LANES, LANES, s3)
        o += 4 * QUAD * quads
    for first in range(blocks, n_out, LANES):
        begun = times(load_ints(totals, b + first), -zero)
        for row in range(rows):
            v = one_vector(add, n, w, o, QUAD, x, at + row * x_row, width, begun)
            store_ints(y, to + row * y_row + first, n_out - first, v)
        o += QUAD * quads


@device
def mend(
    rows: i64, n: i64, n_out: i64, lack: i32p, b: i64, x: u8p, at: i64, x_row: i64, width: i64, y: i32p, to: i64, y_row: i64
) -> None:
    """Add to the sums of `byte_rows` what the weights lack. width: 0 where x has one part."""
    for row in range(rows):
        total, i = np.int32(0), at + row * x_row
        for k in range(n):
            total = np.int32(total + np.int32(x[i + k]) * (128 if width != 0 else 1))
        for k in range(n if width != 0 else 0):
            total = np.int32(total + np.int32(x[i + width + k]))
        for j in range(n_out):
            y[to + row * y_row + j] = np.int32(y[to + row * y_row + j] + np.int32(lack[b + j] * total))


@over_frames(Frames("rows", {"x": ("rows", "n"), "y": ("rows", "width")}))
@kernel
def raised(rows: i64, n: i64, width: i64, by: i64, x: i8p, y: u8p) -> None:
    """y [rows], `width` apart, = x [rows][n], bytes of any kind, plus `by`: 128 where they are signed, else 0."""
    for row in range(rows):
        for k in range(n):
            y[row * width + k] = np.uint8(np.int64(x[row * n + k]) + by)


@over_frames(Frames("rows", {"x": ("rows", "x_row"), "y": ("rows", "n_out")}))
@kernel
def product(
    rows: i64, n_in: i64, n_out: i64, x_row: i64, by: i64, use_lack: i64,
    w: i8p, totals: i32p, lack: i32p, zero: i32p, x: u8p, y: i32p,
) -> None:  # fmt: skip
    """y [rows][n_out] = (x [rows], `x_row` apart, less `by` and less zero[0]) times w. What lies between n_in and the next
    multiple of 4 may be anything."""
    origin = np.int32(zero[0] + by)
    byte_rows(one_part, rows, n_in, n_out, w, 0, totals, 0, origin, x, 0, x_row, 0, y, 0, n_out)
    if use_lack != 0:
        mend(rows, n_in, n_out, lack, 0, x, 0, x_row, 0, y, 0, n_out)


@device
def grid_row(n: i64, steps: f32, x: f32p, at: i64, y: u8p, to: i64) -> f32:
    """y = x[at : at + n] on the grid on which its largest magnitude is `steps`, in bytes; returns the unit of the grid. Where
    an element is NaN or infinite the unit is, so that whatever is computed with it is NaN or infinite too."""
    width = row_width(n)
    most = splat(ZERO)
    for k in range(0, n, LANES):
        most = larger(most, load_lanes(x, at + k, n - k))
    top = peak(most)
    scale = splat(steps / top)
    for k in range(0, n, LANES):
        v = below(above(load_lanes(x, at + k, n - k) * scale, splat(LEAST)), splat(steps))
        store_grid(y, to + k, to + width + k, v)
    return top / steps


@over_frames(Frames("rows", {"x": ("rows", "n_in"), "y": ("rows", "n_out")}, {}, (), ("bytes_", "sums")))
@kernel
def dense(
    rows: i64, n_in: i64, n_out: i64, steps: f32,
    w: i8p, totals: i32p, scales: f32p, bias: f32p, x: f32p, y: f32p, bytes_: u8p, sums: i32p,
) -> None:  # fmt: skip
    """y [rows][n_out] = x [rows][n_in], each row on a grid of its own, times weights w * scales, plus bias.

    steps: the largest number on the grid, at most 8191. scales, bias: [vector][16]. Scratch: bytes_ one row of bytes, sums
    [vector][16].
    """
    width = row_width(n_in)
    for row in range(rows):
        unit = grid_row(n_in, steps, x, row * n_in, bytes_, 0)
        byte_rows(two_parts, 1, n_in, n_out, w, 0, totals, 0, UPPER_ZERO, bytes_, 0, 0, width, sums, 0, 0)
        for j in range(0, n_out, LANES):
            v = fma(to_real(load_ints(sums, j)), splat(unit) * vload(scales, j), vload(bias, j))
            store_lanes(y, row * n_out + j, n_out - j, v)
