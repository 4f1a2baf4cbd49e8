"""Stacks of matrix products of values that are both computed at run time, wherever their elements lie.

Common to all kernels: y[r, s, i, j] = sum over p < k of a[r, s, i, p] b[r, s, p, j] for r < outer, s < batch, i < m, j < n.
Element [r, s, i, p] of a lies at r * a_outer + s * a_batch + i * a_row + p * a_col, likewise b; element [r, s, i, j] of y at
r * y_outer + s * y_batch + i * y_row + j.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, i64p, kernel
from streamrnn.kernels.simd import LANES, fma, load_lanes, splat, store_lanes, vload, vstore, vsum

ZERO = np.float32(0)


@device
def wide_row(k: i64, at: i64, a_col: i64, o: i64, b_row: i64, to: i64, a: f32p, b: f32p, y: f32p) -> None:
    """64 columns of one row; the sum of each runs over p in order."""
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for p in range(k):
        v = splat(a[at + p * a_col])
        here = o + p * b_row
        s0 = fma(vload(b, here), v, s0)
        s1 = fma(vload(b, here + LANES), v, s1)
        s2 = fma(vload(b, here + 2 * LANES), v, s2)
        s3 = fma(vload(b, here + 3 * LANES), v, s3)
    vstore(y, to, s0)
    vstore(y, to + LANES, s1)
    vstore(y, to + 2 * LANES, s2)
    vstore(y, to + 3 * LANES, s3)


@device
def wide_rows(
    k: i64, at: i64, a_row: i64, a_col: i64, o: i64, b_row: i64, to: i64, y_row: i64, a: f32p, b: f32p, y: f32p
) -> None:
    """`wide_row` for two rows, so that b is loaded once for both."""
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    t0, t1, t2, t3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for p in range(k):
        v, w = splat(a[at + p * a_col]), splat(a[at + a_row + p * a_col])
        here = o + p * b_row
        b0, b1 = vload(b, here), vload(b, here + LANES)
        s0, t0, s1, t1 = fma(b0, v, s0), fma(b0, w, t0), fma(b1, v, s1), fma(b1, w, t1)
        b2, b3 = vload(b, here + 2 * LANES), vload(b, here + 3 * LANES)
        s2, t2, s3, t3 = fma(b2, v, s2), fma(b2, w, t2), fma(b3, v, s3), fma(b3, w, t3)
    vstore(y, to, s0)
    vstore(y, to + LANES, s1)
    vstore(y, to + 2 * LANES, s2)
    vstore(y, to + 3 * LANES, s3)
    vstore(y, to + y_row, t0)
    vstore(y, to + y_row + LANES, t1)
    vstore(y, to + y_row + 2 * LANES, t2)
    vstore(y, to + y_row + 3 * LANES, t3)


@device
def narrow_row(k: i64, left: i64, at: i64, a_col: i64, o: i64, b_row: i64, to: i64, a: f32p, b: f32p, y: f32p) -> None:
    """Up to 16 columns of one row; the sum of each is four runs over p modulo 4, then (0 + 1) + (2 + 3)."""
    whole = k - k % 4
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for p in range(0, whole, 4):
        here, there = at + p * a_col, o + p * b_row
        s0 = fma(load_lanes(b, there, left), splat(a[here]), s0)
        s1 = fma(load_lanes(b, there + b_row, left), splat(a[here + a_col]), s1)
        s2 = fma(load_lanes(b, there + 2 * b_row, left), splat(a[here + 2 * a_col]), s2)
        s3 = fma(load_lanes(b, there + 3 * b_row, left), splat(a[here + 3 * a_col]), s3)
    for p in range(whole, k):
        s0 = fma(load_lanes(b, o + p * b_row, left), splat(a[at + p * a_col]), s0)
    store_lanes(y, to, left, (s0 + s1) + (s2 + s3))


@device
def narrow_rows(
    k: i64, left: i64, at: i64, a_row: i64, a_col: i64, o: i64, b_row: i64, to: i64, y_row: i64, a: f32p, b: f32p, y: f32p
) -> None:
    """`narrow_row` for two rows, so that b is loaded once for both."""
    whole = k - k % 4
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    t0, t1, t2, t3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for p in range(0, whole, 4):
        here, there = at + p * a_col, o + p * b_row
        b0, b1 = load_lanes(b, there, left), load_lanes(b, there + b_row, left)
        s0, t0 = fma(b0, splat(a[here]), s0), fma(b0, splat(a[here + a_row]), t0)
        s1, t1 = fma(b1, splat(a[here + a_col]), s1), fma(b1, splat(a[here + a_row + a_col]), t1)
        b2, b3 = load_lanes(b, there + 2 * b_row, left), load_lanes(b, there + 3 * b_row, left)
        s2, t2 = fma(b2, splat(a[here + 2 * a_col]), s2), fma(b2, splat(a[here + a_row + 2 * a_col]), t2)
        s3, t3 = fma(b3, splat(a[here + 3 * a_col]), s3), fma(b3, splat(a[here + a_row + 3 * a_col]), t3)
    for p in range(whole, k):
        b0 = load_lanes(b, o + p * b_row, left)
        s0, t0 = fma(b0, splat(a[at + p * a_col]), s0), fma(b0, splat(a[at + a_row + p * a_col]), t0)
    store_lanes(y, to, left, (s0 + s1) + (s2 + s3))
    store_lanes(y, to + y_row, left, (t0 + t1) + (t2 + t3))


@kernel
def products(
    outer: i64, batch: i64, m: i64, k: i64, n: i64,
    a_outer: i64, a_batch: i64, a_row: i64, a_col: i64, b_outer: i64, b_batch: i64, b_row: i64,
    y_outer: i64, y_batch: i64, y_row: i64, a: f32p, b: f32p, y: f32p,
) -> None:  # fmt: skip
    """Lanes are neighbouring columns, which are neighbours in b too."""
    wide = n - n % (4 * LANES)
    pairs = m - m % 2
    for rs in range(outer * batch):
        r, s = rs // batch, rs % batch
        ab, bb, yb = r * a_outer + s * a_batch, r * b_outer + s * b_batch, r * y_outer + s * y_batch
        for j in range(0, wide, 4 * LANES):
            for i in range(0, pairs, 2):
                wide_rows(k, ab + i * a_row, a_row, a_col, bb + j, b_row, yb + i * y_row + j, y_row, a, b, y)
            if pairs < m:
                wide_row(k, ab + pairs * a_row, a_col, bb + j, b_row, yb + pairs * y_row + j, a, b, y)
        for j in range(wide, n, LANES):
            left = n - j
            for i in range(0, pairs, 2):
                narrow_rows(k, left, ab + i * a_row, a_row, a_col, bb + j, b_row, yb + i * y_row + j, y_row, a, b, y)
            if pairs < m:
                narrow_row(k, left, ab + pairs * a_row, a_col, bb + j, b_row, yb + pairs * y_row + j, a, b, y)


@kernel
def dots(
    outer: i64, batch: i64, m: i64, k: i64, n: i64,
    a_outer: i64, a_batch: i64, a_row: i64, b_outer: i64, b_batch: i64, b_col: i64,
    y_outer: i64, y_batch: i64, y_row: i64, a: f32p, b: f32p, y: f32p,
) -> None:  # fmt: skip
    """Lanes are neighbours along p in a and in b; the sixteen sums are added in halves."""
    for rs in range(outer * batch):
        r, s = rs // batch, rs % batch
        ab = r * a_outer + s * a_batch
        bb = r * b_outer + s * b_batch
        yb = r * y_outer + s * y_batch
        for i in range(m):
            at = ab + i * a_row
            for j in range(n):
                o = bb + j * b_col
                total = splat(ZERO)
                for p in range(0, k, LANES):
                    total = fma(load_lanes(a, at + p, k - p), load_lanes(b, o + p, k - p), total)
                y[yb + i * y_row + j] = vsum(total)


@kernel
def scalars(
    outer: i64, batch: i64, m: i64, k: i64, n: i64,
    a_outer: i64, a_batch: i64, a_row: i64, a_col: i64, b_outer: i64, b_batch: i64, b_row: i64, b_col: i64,
    y_outer: i64, y_batch: i64, y_row: i64, a: i64p, b: i64p, y: i64p,
) -> None:  # fmt: skip
    """One by one, for element types without lanes."""
    for rs in range(outer * batch):
        r, s = rs // batch, rs % batch
        ab = r * a_outer + s * a_batch
        bb = r * b_outer + s * b_batch
        yb = r * y_outer + s * y_batch
        for i in range(m):
            for j in range(n):
                at = yb + i * y_row + j
                y[at] = 0
                for p in range(k):
                    y[at] += a[ab + i * a_row + p * a_col] * b[bb + p * b_row + j * b_col]
