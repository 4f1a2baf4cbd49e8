"""The input's part of the gates of a recurrent cell, for many frames at once: a matrix product.

    w      the weights of the cell: [tile][row][gate][16], rows of n_in inputs in front of those of n_hidden units
    start  [tile][gate][16], the biases, with which each sum begins
    x      [frames][batch][n_in]
    z      [frames][batch] rows of s_row elements: [tile][gate][16], the sums

Each sum is one chain of additions over the inputs, as in `gates`: its bits are those of the cell's own product.
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32p, i64, kernel
from streamrnn.kernels.dense import Four
from streamrnn.kernels.frames import Frames, over_frames
from streamrnn.kernels.gates import add
from streamrnn.kernels.simd import LANES, Vec, fma, one_register, splat, vload, vstore

#: inputs whose weights stay in the nearest cache while all rows pass by
BLOCK = 128

ROWS = Frames("frames", {"x": ("frames", "batch", "n_in"), "z": ("frames", "batch", "s_row")})


@device
def load_rows(z: f32p, i: i64, row: i64) -> Four:
    """One gate of four rows."""
    return vload(z, i), vload(z, i + row), vload(z, i + 2 * row), vload(z, i + 3 * row)


@device
def store_rows(z: f32p, i: i64, row: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> None:
    """The reverse of `load_rows`."""
    vstore(z, i, s0)
    vstore(z, i + row, s1)
    vstore(z, i + 2 * row, s2)
    vstore(z, i + 3 * row, s3)


@device
def four_rows(v: Vec, x: f32p, k: i64, x_row: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> Four:
    """Product k of one gate for four rows."""
    return (
        fma(v, splat(x[k]), s0),
        fma(v, splat(x[k + x_row]), s1),
        fma(v, splat(x[k + 2 * x_row]), s2),
        fma(v, splat(x[k + 3 * x_row]), s3),
    )


@device
def add_gate(
    gates: i64, n: i64, w: f32p, o: i64, x: f32p, at: i64, x_row: i64, start: f32p, si: i64, start_row: i64,
    z: f32p, zo: i64, z_row: i64,
) -> None:  # fmt: skip
    """One gate of four rows: n products more than `start` has."""
    s0, s1, s2, s3 = load_rows(start, si, start_row)
    for k in range(n):
        s0, s1, s2, s3 = four_rows(vload(w, o + gates * k * LANES), x, at + k, x_row, s0, s1, s2, s3)
    store_rows(z, zo, z_row, s0, s1, s2, s3)


@device
def add_four_rows(
    gates: i64, n: i64, w: f32p, o: i64, x: f32p, at: i64, x_row: i64, start: f32p, si: i64, start_row: i64,
    z: f32p, zo: i64, z_row: i64,
) -> None:  # fmt: skip
    """The gates of four rows: n products more than `start` has."""
    if not one_register():  # the sums of all gates would be more than there are registers
        for i in range(0, gates * LANES, LANES):
            add_gate(gates, n, w, o + i, x, at, x_row, start, si + i, start_row, z, zo + i, z_row)
        return
    a0, a1, a2, a3 = load_rows(start, si, start_row)
    b0, b1, b2, b3 = load_rows(start, si + LANES, start_row)
    c0, c1, c2, c3 = load_rows(start, si + 2 * LANES, start_row)
    d0, d1, d2, d3 = load_rows(start, si + (gates - 1) * LANES, start_row)
    for k in range(at, at + n):
        a0, a1, a2, a3 = four_rows(vload(w, o), x, k, x_row, a0, a1, a2, a3)
        b0, b1, b2, b3 = four_rows(vload(w, o + LANES), x, k, x_row, b0, b1, b2, b3)
        c0, c1, c2, c3 = four_rows(vload(w, o + 2 * LANES), x, k, x_row, c0, c1, c2, c3)
        if gates == 4:
            d0, d1, d2, d3 = four_rows(vload(w, o + 3 * LANES), x, k, x_row, d0, d1, d2, d3)
        o += gates * LANES
    store_rows(z, zo, z_row, a0, a1, a2, a3)
    store_rows(z, zo + LANES, z_row, b0, b1, b2, b3)
    store_rows(z, zo + 2 * LANES, z_row, c0, c1, c2, c3)
    if gates == 4:
        store_rows(z, zo + 3 * LANES, z_row, d0, d1, d2, d3)


@device
def add_row(gates: i64, n: i64, w: f32p, o: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64) -> None:
    """The gates of one row."""
    s0, s1, s2 = vload(start, si), vload(start, si + LANES), vload(start, si + 2 * LANES)
    s3 = vload(start, si + (gates - 1) * LANES)
    s0, s1, s2, s3 = add(gates, 0, n, w, o, x, at, s0, s1, s2, s3)
    vstore(z, zo, s0)
    vstore(z, zo + LANES, s1)
    vstore(z, zo + 2 * LANES, s2)
    if gates == 4:
        vstore(z, zo + 3 * LANES, s3)


@device
def project(gates: i64, rows: i64, n_in: i64, n_hidden: i64, s_row: i64, w: f32p, start: f32p, x: f32p, z: f32p) -> None:
    """The sums of `gates` gates (3 or 4, written out by the caller)."""
    size = gates * LANES
    for tile in range(s_row // size):
        for first in range(0, n_in, BLOCK):
            n, o = min(BLOCK, n_in - first), (tile * (n_in + n_hidden) + first) * size
            for row in range(0, rows - rows % 4, 4):
                at, zo = row * n_in + first, row * s_row + tile * size
                if first == 0:
                    add_four_rows(gates, n, w, o, x, at, n_in, start, tile * size, 0, z, zo, s_row)
                else:
                    add_four_rows(gates, n, w, o, x, at, n_in, z, zo, s_row, z, zo, s_row)
            for row in range(rows - rows % 4, rows):
                at, zo = row * n_in + first, row * s_row + tile * size
                if first == 0:
                    add_row(gates, n, w, o, x, at, start, tile * size, z, zo)
                else:
                    add_row(gates, n, w, o, x, at, z, zo, z, zo)


@over_frames(ROWS)
@kernel
def project_four(frames: i64, batch: i64, n_in: i64, n_hidden: i64, s_row: i64, w: f32p, start: f32p, x: f32p, z: f32p) -> None:
    """Four gates (LSTM)."""
    project(4, frames * batch, n_in, n_hidden, s_row, w, start, x, z)


@over_frames(ROWS)
@kernel
def project_three(
    frames: i64, batch: i64, n_in: i64, n_hidden: i64, s_row: i64, w: f32p, start: f32p, x: f32p, z: f32p
) -> None:
    """Three gates (GRU)."""
    project(3, frames * batch, n_in, n_hidden, s_row, w, start, x, z)
