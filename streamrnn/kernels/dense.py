"""Matrix products with constant weights."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import f32p, i64, kernel
from streamrnn.kernels.simd import LANES, fma, splat, vload, vstore, vstore_part

ZERO = np.float32(0)


@kernel
def dense(rows: i64, n_in: i64, n_out: i64, w: f32p, x: f32p, y: f32p) -> None:
    """y [rows][n_out] = x [rows][n_in] times weights, plus bias.

    w: [tile][bias row, then n_in rows][16]. Each output is one fixed sum: bias plus four partial sums over k modulo 4.
    """
    n_tiles = (n_out + LANES - 1) // LANES
    whole = n_in - n_in % 4
    for r in range(rows):
        o = 0
        xo = r * n_in
        for tile in range(n_tiles):
            s0 = vload(w, o)
            s1 = splat(ZERO)
            s2 = splat(ZERO)
            s3 = splat(ZERO)
            o += LANES
            for k in range(0, whole, 4):
                s0 = fma(vload(w, o), splat(x[xo + k]), s0)
                s1 = fma(vload(w, o + LANES), splat(x[xo + k + 1]), s1)
                s2 = fma(vload(w, o + 2 * LANES), splat(x[xo + k + 2]), s2)
                s3 = fma(vload(w, o + 3 * LANES), splat(x[xo + k + 3]), s3)
                o += 4 * LANES
            for k in range(whole, n_in):
                s0 = fma(vload(w, o), splat(x[xo + k]), s0)
                o += LANES
            total = (s0 + s1) + (s2 + s3)
            at = r * n_out + tile * LANES
            left = n_out - tile * LANES
            if left >= LANES:
                vstore(y, at, total)
            else:
                vstore_part(y, at, left, total)


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
