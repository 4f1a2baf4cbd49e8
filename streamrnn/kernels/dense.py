"""Matrix products, and the sums of products that convolutions and recurrent cells have in common.

A sum of n products is made of four partial sums: of the products 0, 4, 8, ..., of 1, 5, 9, ..., and so on. The n % 4 last
products go onto the first one, which starts from the bias, and the result is (sum 0 + sum 1) + (sum 2 + sum 3). Every sum is
made so, for one position, for two or for four at a time, on every CPU: whoever computes it, its bits are the same. Weights
lie as [tile][bias, then n products][16], so that a single position reads them once from first to last.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, kernel
from streamrnn.kernels.frames import Frames, over_frames
from streamrnn.kernels.simd import LANES, Vec, fma, one_register, splat, store_lanes, vload, vstore

ZERO = np.float32(0)

#: how a kernel reads the input of one product: (x, at, offsets, k) -> Vec
Reader: TypeAlias = Any
#: distances of the products' inputs, for readers that need them
Offsets: TypeAlias = Any
Four: TypeAlias = tuple[Vec, Vec, Vec, Vec]
Eight: TypeAlias = tuple[Vec, Vec, Vec, Vec, Vec, Vec, Vec, Vec]


@device
def adjacent(x: f32p, at: i64, offsets: Offsets, k: i64) -> Vec:
    """The input of product k in all lanes, where products lie one behind the other."""
    return splat(x[at + k])


@device
def product(
    read: Reader, v: Vec, x: f32p, at: i64, step: i64, offsets: Offsets, k: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec
) -> Four:
    """Product k of four positions, `step` apart, for one vector of weights."""
    return (
        fma(v, read(x, at, offsets, k), s0),
        fma(v, read(x, at + step, offsets, k), s1),
        fma(v, read(x, at + 2 * step, offsets, k), s2),
        fma(v, read(x, at + 3 * step, offsets, k), s3),
    )


@device
def two_sums(
    read: Reader, w: f32p, o: i64, x: f32p, at: i64, step: i64, offsets: Offsets, first: i64, whole: i64, start: Vec
) -> Eight:
    """Partial sums `first`, begun with `start`, and `first` + 1 of four positions, over the products below `whole`."""
    zero = splat(ZERO)
    s0, s1, s2, s3 = start, start, start, start
    t0, t1, t2, t3 = zero, zero, zero, zero
    if one_register():
        for k in range(first, whole, 4):
            s0, s1, s2, s3 = product(read, vload(w, o + k * LANES), x, at, step, offsets, k, s0, s1, s2, s3)
            t0, t1, t2, t3 = product(read, vload(w, o + (k + 1) * LANES), x, at, step, offsets, k + 1, t0, t1, t2, t3)
    else:
        for k in range(first, whole, 4):
            s0, s1, s2, s3 = product(read, vload(w, o + k * LANES), x, at, step, offsets, k, s0, s1, s2, s3)
        for k in range(first + 1, whole, 4):
            t0, t1, t2, t3 = product(read, vload(w, o + k * LANES), x, at, step, offsets, k, t0, t1, t2, t3)
    return s0, s1, s2, s3, t0, t1, t2, t3


@device
def four_positions(read: Reader, w: f32p, o: i64, x: f32p, at: i64, step: i64, offsets: Offsets, n: i64, bias: Vec) -> Four:
    """All n products of four positions, for one vector of channels. w[o] is product 0."""
    whole = n - n % 4
    s0, s1, s2, s3, t0, t1, t2, t3 = two_sums(read, w, o, x, at, step, offsets, 0, whole, bias)
    for k in range(whole, n):
        s0, s1, s2, s3 = product(read, vload(w, o + k * LANES), x, at, step, offsets, k, s0, s1, s2, s3)
    s0, s1, s2, s3 = s0 + t0, s1 + t1, s2 + t2, s3 + t3
    t0, t1, t2, t3, u0, u1, u2, u3 = two_sums(read, w, o, x, at, step, offsets, 2, whole, splat(ZERO))
    return s0 + (t0 + u0), s1 + (t1 + u1), s2 + (t2 + u2), s3 + (t3 + u3)


@device
def two_positions(
    read: Reader, w: f32p, o: i64, x: f32p, at: i64, step: i64, offsets: Offsets, n: i64, bias: Vec
) -> tuple[Vec, Vec]:
    """All n products of two positions, for one vector of channels."""
    whole = n - n % 4
    zero = splat(ZERO)
    s0, s1, s2, s3 = bias, zero, zero, zero
    t0, t1, t2, t3 = bias, zero, zero, zero
    to = at + step
    for k in range(0, whole, 4):
        i = o + k * LANES
        v = vload(w, i)
        s0, t0 = fma(v, read(x, at, offsets, k), s0), fma(v, read(x, to, offsets, k), t0)
        v = vload(w, i + LANES)
        s1, t1 = fma(v, read(x, at, offsets, k + 1), s1), fma(v, read(x, to, offsets, k + 1), t1)
        v = vload(w, i + 2 * LANES)
        s2, t2 = fma(v, read(x, at, offsets, k + 2), s2), fma(v, read(x, to, offsets, k + 2), t2)
        v = vload(w, i + 3 * LANES)
        s3, t3 = fma(v, read(x, at, offsets, k + 3), s3), fma(v, read(x, to, offsets, k + 3), t3)
    for k in range(whole, n):
        v = vload(w, o + k * LANES)
        s0, t0 = fma(v, read(x, at, offsets, k), s0), fma(v, read(x, to, offsets, k), t0)
    return (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3)


@device
def one_position(read: Reader, w: f32p, o: i64, x: f32p, at: i64, offsets: Offsets, n: i64, bias: Vec) -> Vec:
    """All n products of one position, for one vector of channels."""
    whole = n - n % 4
    zero = splat(ZERO)
    s0, s1, s2, s3 = bias, zero, zero, zero
    for k in range(0, whole, 4):
        i = o + k * LANES
        s0 = fma(vload(w, i), read(x, at, offsets, k), s0)
        s1 = fma(vload(w, i + LANES), read(x, at, offsets, k + 1), s1)
        s2 = fma(vload(w, i + 2 * LANES), read(x, at, offsets, k + 2), s2)
        s3 = fma(vload(w, i + 3 * LANES), read(x, at, offsets, k + 3), s3)
    for k in range(whole, n):
        s0 = fma(vload(w, o + k * LANES), read(x, at, offsets, k), s0)
    return (s0 + s1) + (s2 + s3)


@device
def four_tiles(read: Reader, w: f32p, o: i64, tile: i64, x: f32p, at: i64, offsets: Offsets, n: i64) -> Four:
    """All n products of one position, for four vectors of channels whose weights begin `tile` apart. w[o] is their first
    bias."""
    o0, o1, o2, o3 = o + LANES, o + LANES + tile, o + LANES + 2 * tile, o + LANES + 3 * tile
    b0, b1, b2, b3 = vload(w, o0 - LANES), vload(w, o1 - LANES), vload(w, o2 - LANES), vload(w, o3 - LANES)
    if not one_register():
        return (
            one_position(read, w, o0, x, at, offsets, n, b0),
            one_position(read, w, o1, x, at, offsets, n, b1),
            one_position(read, w, o2, x, at, offsets, n, b2),
            one_position(read, w, o3, x, at, offsets, n, b3),
        )
    whole = n - n % 4
    zero = splat(ZERO)
    p0, p1, p2, p3 = zero, zero, zero, zero
    q0, q1, q2, q3 = zero, zero, zero, zero
    r0, r1, r2, r3 = zero, zero, zero, zero
    for k in range(0, whole, 4):
        i = k * LANES
        b0, b1, b2, b3 = tile_product(w, o0 + i, tile, read(x, at, offsets, k), b0, b1, b2, b3)
        p0, p1, p2, p3 = tile_product(w, o0 + i + LANES, tile, read(x, at, offsets, k + 1), p0, p1, p2, p3)
        q0, q1, q2, q3 = tile_product(w, o0 + i + 2 * LANES, tile, read(x, at, offsets, k + 2), q0, q1, q2, q3)
        r0, r1, r2, r3 = tile_product(w, o0 + i + 3 * LANES, tile, read(x, at, offsets, k + 3), r0, r1, r2, r3)
    for k in range(whole, n):
        b0, b1, b2, b3 = tile_product(w, o0 + k * LANES, tile, read(x, at, offsets, k), b0, b1, b2, b3)
    return (b0 + p0) + (q0 + r0), (b1 + p1) + (q1 + r1), (b2 + p2) + (q2 + r2), (b3 + p3) + (q3 + r3)


@device
def tile_product(w: f32p, o: i64, tile: i64, v: Vec, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> Four:
    """One product of four vectors of channels."""
    return (
        fma(vload(w, o), v, s0),
        fma(vload(w, o + tile), v, s1),
        fma(vload(w, o + 2 * tile), v, s2),
        fma(vload(w, o + 3 * tile), v, s3),
    )


@device
def one_row(n_in: i64, n_out: i64, w: f32p, o: i64, x: f32p, at: i64, y: f32p, to: i64) -> None:
    """`dense_rows` for one row."""
    step = (1 + n_in) * LANES
    whole = n_out - n_out % (4 * LANES)
    for tile in range(0, whole, 4 * LANES):
        s0, s1, s2, s3 = four_tiles(adjacent, w, o, step, x, at, x, n_in)
        vstore(y, to + tile, s0)
        vstore(y, to + tile + LANES, s1)
        vstore(y, to + tile + 2 * LANES, s2)
        vstore(y, to + tile + 3 * LANES, s3)
        o += 4 * step
    for tile in range(whole, n_out, LANES):
        v = one_position(adjacent, w, o + LANES, x, at, x, n_in, vload(w, o))
        store_lanes(y, to + tile, n_out - tile, v)
        o += step


@device
def dense_rows(
    rows: i64, n_in: i64, n_out: i64, w: f32p, first: i64, x: f32p, x_at: i64, y: f32p, y_at: i64, y_row: i64
) -> None:
    """y [rows][n_out], `y_row` apart from y[y_at] on = x [rows][n_in] from x[x_at] on times weights from w[first] on, plus
    bias."""
    o = first + LANES
    blocks = rows // 4
    for tile in range(0, n_out if rows > 1 else 0, LANES):
        bias = vload(w, o - LANES)
        at, to, left = x_at, y_at + tile, n_out - tile
        for _ in range(blocks):
            s0, s1, s2, s3 = four_positions(adjacent, w, o, x, at, n_in, x, n_in, bias)
            store_lanes(y, to, left, s0)
            store_lanes(y, to + y_row, left, s1)
            store_lanes(y, to + 2 * y_row, left, s2)
            store_lanes(y, to + 3 * y_row, left, s3)
            at += 4 * n_in
            to += 4 * y_row
        if rows - 4 * blocks >= 2:
            s0, s1 = two_positions(adjacent, w, o, x, at, n_in, x, n_in, bias)
            store_lanes(y, to, left, s0)
            store_lanes(y, to + y_row, left, s1)
        o += (1 + n_in) * LANES
    if rows % 2 != 0:
        one_row(n_in, n_out, w, first, x, x_at + (rows - 1) * n_in, y, y_at + (rows - 1) * y_row)


@over_frames(Frames("rows", {"x": ("rows", "n_in"), "y": ("rows", "n_out")}))
@kernel
def dense(rows: i64, n_in: i64, n_out: i64, w: f32p, x: f32p, y: f32p) -> None:
    """y [rows][n_out] = x [rows][n_in] times weights, plus bias."""
    dense_rows(rows, n_in, n_out, w, 0, x, 0, y, 0, n_out)


@kernel
def matmul(m: i64, k: i64, n: i64, a_row: i64, a_col: i64, b_row: i64, b_col: i64, a: f32p, b: f32p, y: f32p) -> None:
    """y [m][n] = a times b, both computed at run time; a[i, p] lies at i * a_row + p * a_col, likewise b."""
    for i in range(m):
        for j in range(n):
            y[i * n + j] = ZERO
        for p in range(k):
            v = a[i * a_row + p * a_col]
            for j in range(n):
                y[i * n + j] += v * b[p * b_row + j * b_col]
