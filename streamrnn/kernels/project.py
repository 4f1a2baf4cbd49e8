"""The input's part of the gates of a recurrent cell, for many frames at once: a matrix product.

    w      the weights of the cell: [tile][row][gate][16], rows of n_in inputs in front of those of n_hidden units
    start  [tile][gate][16], the biases, with which each sum begins
    x      [frames][batch][n_in]
    z      [frames][batch] rows of s_row elements: [tile][gate][16], the sums

Each sum is one chain of additions over the inputs, as in `gates`: its bits are those of the cell's own product.
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32p, i64, kernel
from streamrnn.kernels.frames import Frames, over_frames
from streamrnn.kernels.gates import one_row_of_four, one_row_of_three
from streamrnn.kernels.simd import LANES, Vec, fma, splat, vload, vstore

#: inputs whose weights stay in the nearest cache while all rows pass by
BLOCK = 128

ROWS = Frames("frames", {"x": ("frames", "batch", "n_in"), "z": ("frames", "batch", "s_row")})


@device
def four_rows(v: Vec, x: f32p, k: i64, x_row: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> tuple[Vec, Vec, Vec, Vec]:
    """Product k of one gate for four rows."""
    return (
        fma(v, splat(x[k]), s0),
        fma(v, splat(x[k + x_row]), s1),
        fma(v, splat(x[k + 2 * x_row]), s2),
        fma(v, splat(x[k + 3 * x_row]), s3),
    )


@device
def store_rows(z: f32p, zo: i64, z_row: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> None:
    """One gate of four rows."""
    vstore(z, zo, s0)
    vstore(z, zo + z_row, s1)
    vstore(z, zo + 2 * z_row, s2)
    vstore(z, zo + 3 * z_row, s3)


@device
def four_rows_of_four(
    n: i64, w: f32p, o: i64, x: f32p, at: i64, x_row: i64, start: f32p, si: i64, start_row: i64, z: f32p, zo: i64, z_row: i64
) -> None:
    """Four gates of four rows: n products more than `start` has."""
    s1, s2, s3 = si + start_row, si + 2 * start_row, si + 3 * start_row
    a0, a1, a2, a3 = vload(start, si), vload(start, s1), vload(start, s2), vload(start, s3)
    b0, b1, b2, b3 = vload(start, si + LANES), vload(start, s1 + LANES), vload(start, s2 + LANES), vload(start, s3 + LANES)
    c0, c1, c2, c3 = (
        vload(start, si + 2 * LANES),
        vload(start, s1 + 2 * LANES),
        vload(start, s2 + 2 * LANES),
        vload(start, s3 + 2 * LANES),
    )
    d0, d1, d2, d3 = (
        vload(start, si + 3 * LANES),
        vload(start, s1 + 3 * LANES),
        vload(start, s2 + 3 * LANES),
        vload(start, s3 + 3 * LANES),
    )
    for k in range(at, at + n):
        a0, a1, a2, a3 = four_rows(vload(w, o), x, k, x_row, a0, a1, a2, a3)
        b0, b1, b2, b3 = four_rows(vload(w, o + LANES), x, k, x_row, b0, b1, b2, b3)
        c0, c1, c2, c3 = four_rows(vload(w, o + 2 * LANES), x, k, x_row, c0, c1, c2, c3)
        d0, d1, d2, d3 = four_rows(vload(w, o + 3 * LANES), x, k, x_row, d0, d1, d2, d3)
        o += 4 * LANES
    store_rows(z, zo, z_row, a0, a1, a2, a3)
    store_rows(z, zo + LANES, z_row, b0, b1, b2, b3)
    store_rows(z, zo + 2 * LANES, z_row, c0, c1, c2, c3)
    store_rows(z, zo + 3 * LANES, z_row, d0, d1, d2, d3)


@device
def four_rows_of_three(
    n: i64, w: f32p, o: i64, x: f32p, at: i64, x_row: i64, start: f32p, si: i64, start_row: i64, z: f32p, zo: i64, z_row: i64
) -> None:
    """Three gates of four rows: n products more than `start` has."""
    s1, s2, s3 = si + start_row, si + 2 * start_row, si + 3 * start_row
    a0, a1, a2, a3 = vload(start, si), vload(start, s1), vload(start, s2), vload(start, s3)
    b0, b1, b2, b3 = vload(start, si + LANES), vload(start, s1 + LANES), vload(start, s2 + LANES), vload(start, s3 + LANES)
    c0, c1, c2, c3 = (
        vload(start, si + 2 * LANES),
        vload(start, s1 + 2 * LANES),
        vload(start, s2 + 2 * LANES),
        vload(start, s3 + 2 * LANES),
    )
    for k in range(at, at + n):
        a0, a1, a2, a3 = four_rows(vload(w, o), x, k, x_row, a0, a1, a2, a3)
        b0, b1, b2, b3 = four_rows(vload(w, o + LANES), x, k, x_row, b0, b1, b2, b3)
        c0, c1, c2, c3 = four_rows(vload(w, o + 2 * LANES), x, k, x_row, c0, c1, c2, c3)
        o += 3 * LANES
    store_rows(z, zo, z_row, a0, a1, a2, a3)
    store_rows(z, zo + LANES, z_row, b0, b1, b2, b3)
    store_rows(z, zo + 2 * LANES, z_row, c0, c1, c2, c3)


@over_frames(ROWS)
@kernel
def project_four(frames: i64, batch: i64, n_in: i64, n_hidden: i64, s_row: i64, w: f32p, start: f32p, x: f32p, z: f32p) -> None:
    """Four gates (LSTM)."""
    rows, size = frames * batch, 4 * LANES
    for tile in range(s_row // size):
        for first in range(0, n_in, BLOCK):
            n, o = min(BLOCK, n_in - first), (tile * (n_in + n_hidden) + first) * size
            for row in range(0, rows - rows % 4, 4):
                at, zo = row * n_in + first, row * s_row + tile * size
                if first == 0:
                    four_rows_of_four(n, w, o, x, at, n_in, start, tile * size, 0, z, zo, s_row)
                else:
                    four_rows_of_four(n, w, o, x, at, n_in, z, zo, s_row, z, zo, s_row)
            for row in range(rows - rows % 4, rows):
                at, zo = row * n_in + first, row * s_row + tile * size
                if first == 0:
                    one_row_of_four(n, w, o, x, at, start, tile * size, z, zo)
                else:
                    one_row_of_four(n, w, o, x, at, z, zo, z, zo)


@over_frames(ROWS)
@kernel
def project_three(
    frames: i64, batch: i64, n_in: i64, n_hidden: i64, s_row: i64, w: f32p, start: f32p, x: f32p, z: f32p
) -> None:
    """Three gates (GRU)."""
    rows, size = frames * batch, 3 * LANES
    for tile in range(s_row // size):
        for first in range(0, n_in, BLOCK):
            n, o = min(BLOCK, n_in - first), (tile * (n_in + n_hidden) + first) * size
            for row in range(0, rows - rows % 4, 4):
                at, zo = row * n_in + first, row * s_row + tile * size
                if first == 0:
                    four_rows_of_three(n, w, o, x, at, n_in, start, tile * size, 0, z, zo, s_row)
                else:
                    four_rows_of_three(n, w, o, x, at, n_in, z, zo, s_row, z, zo, s_row)
            for row in range(rows - rows % 4, rows):
                at, zo = row * n_in + first, row * s_row + tile * size
                if first == 0:
                    one_row_of_three(n, w, o, x, at, start, tile * size, z, zo)
                else:
                    one_row_of_three(n, w, o, x, at, z, zo, z, zo)
