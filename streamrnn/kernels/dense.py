"""Matrix products with constant weights."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import f32p, i64, kernel
from streamrnn.kernels.simd import LANES, fma, splat, store_lanes, vload

ZERO = np.float32(0)


@kernel
def dense(rows: i64, n_in: i64, n_out: i64, w: f32p, x: f32p, y: f32p) -> None:
    """y [rows][n_out] = x [rows][n_in] times weights, plus bias.

    w: [tile][bias row, then n_in rows][16]. Each output is one fixed sum: bias plus four partial sums over k modulo 4,
    because one chain would wait for its own additions. Rows go in pairs, so that a weight is loaded once for two.
    """
    n_tiles = (n_out + LANES - 1) // LANES
    whole = n_in - n_in % 4
    paired = rows - rows % 2
    for tile in range(n_tiles):
        start = tile * (n_in + 1) * LANES
        at = tile * LANES
        left = n_out - at
        for r in range(0, paired, 2):
            xo = r * n_in
            xp = xo + n_in
            s0 = vload(w, start)
            s1 = splat(ZERO)
            s2 = splat(ZERO)
            s3 = splat(ZERO)
            p0 = s0
            p1 = s1
            p2 = s2
            p3 = s3
            o = start + LANES
            for k in range(0, whole, 4):
                w0 = vload(w, o)
                w1 = vload(w, o + LANES)
                w2 = vload(w, o + 2 * LANES)
                w3 = vload(w, o + 3 * LANES)
                s0 = fma(w0, splat(x[xo + k]), s0)
                p0 = fma(w0, splat(x[xp + k]), p0)
                s1 = fma(w1, splat(x[xo + k + 1]), s1)
                p1 = fma(w1, splat(x[xp + k + 1]), p1)
                s2 = fma(w2, splat(x[xo + k + 2]), s2)
                p2 = fma(w2, splat(x[xp + k + 2]), p2)
                s3 = fma(w3, splat(x[xo + k + 3]), s3)
                p3 = fma(w3, splat(x[xp + k + 3]), p3)
                o += 4 * LANES
            for k in range(whole, n_in):
                w0 = vload(w, o)
                s0 = fma(w0, splat(x[xo + k]), s0)
                p0 = fma(w0, splat(x[xp + k]), p0)
                o += LANES
            store_lanes(y, r * n_out + at, left, (s0 + s1) + (s2 + s3))
            store_lanes(y, (r + 1) * n_out + at, left, (p0 + p1) + (p2 + p3))
        if paired < rows:
            xo = paired * n_in
            s0 = vload(w, start)
            s1 = splat(ZERO)
            s2 = splat(ZERO)
            s3 = splat(ZERO)
            o = start + LANES
            for k in range(0, whole, 4):
                s0 = fma(vload(w, o), splat(x[xo + k]), s0)
                s1 = fma(vload(w, o + LANES), splat(x[xo + k + 1]), s1)
                s2 = fma(vload(w, o + 2 * LANES), splat(x[xo + k + 2]), s2)
                s3 = fma(vload(w, o + 3 * LANES), splat(x[xo + k + 3]), s3)
                o += 4 * LANES
            for k in range(whole, n_in):
                s0 = fma(vload(w, o), splat(x[xo + k]), s0)
                o += LANES
            store_lanes(y, paired * n_out + at, left, (s0 + s1) + (s2 + s3))
