"""What vectors add to the gates of 16 hidden units each: the products of recurrent cells.

    gates  3 or 4, written out by the caller, onto the sums from s`first` on; others of the four stay as they are
    w      [row][gate][16]: the weights of n rows from w[o] on are read from first to last
    x      n numbers from x[at] on

Each gate is one chain of additions over k, alone or beside others: its bits are the same. An addition waits for the one before,
so where a vector is one register the gates of one tile do not fill the pipeline; those of two do.
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32p, i64
from streamrnn.kernels.dense import Eight, Four
from streamrnn.kernels.simd import LANES, Vec, fma, one_register, splat, vload, vstore


@device
def load_four(z: f32p, i: i64) -> Four:
    """The four vectors from z[i] on."""
    return vload(z, i), vload(z, i + LANES), vload(z, i + 2 * LANES), vload(z, i + 3 * LANES)


@device
def store_four(z: f32p, i: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> None:
    """The reverse of `load_four`."""
    vstore(z, i, s0)
    vstore(z, i + LANES, s1)
    vstore(z, i + 2 * LANES, s2)
    vstore(z, i + 3 * LANES, s3)


@device
def add(
    gates: i64, first: i64, n: i64, w: f32p, o: i64, x: f32p, at: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec
) -> Four:  # fmt: skip
    """One tile for one row of x."""
    for k in range(n):
        i, a = o + (gates * k - first) * LANES, splat(x[at + k])
        if first == 0:
            s0 = fma(vload(w, i), a, s0)
        s1 = fma(vload(w, i + LANES), a, s1)
        s2 = fma(vload(w, i + 2 * LANES), a, s2)
        if first + gates == 4:
            s3 = fma(vload(w, i + 3 * LANES), a, s3)
    return s0, s1, s2, s3


@device
def add_two(
    gates: i64, first: i64, n: i64, w: f32p, o: i64, p: i64, x: f32p, at: i64, to: i64,
    s0: Vec, s1: Vec, s2: Vec, s3: Vec, t0: Vec, t1: Vec, t2: Vec, t3: Vec,
) -> Eight:  # fmt: skip
    """Two tiles, their weights from w[o] and w[p] on, for one row of x; or one tile for two rows, from x[at] and x[to] on."""
    halves = gates == 4 and not one_register()  # all sums would be more than there are registers
    for k in range(n):
        i, j = o + (gates * k - first) * LANES, p + (gates * k - first) * LANES
        a, b = splat(x[at + k]), splat(x[to + k])
        if first == 0:
            s0, t0 = fma(vload(w, i), a, s0), fma(vload(w, j), b, t0)
        s1, t1 = fma(vload(w, i + LANES), a, s1), fma(vload(w, j + LANES), b, t1)
        if not halves:
            s2, t2 = fma(vload(w, i + 2 * LANES), a, s2), fma(vload(w, j + 2 * LANES), b, t2)
        if not halves and first + gates == 4:
            s3, t3 = fma(vload(w, i + 3 * LANES), a, s3), fma(vload(w, j + 3 * LANES), b, t3)
    for k in range(n if halves else 0):
        i, j = o + 4 * k * LANES, p + 4 * k * LANES
        a, b = splat(x[at + k]), splat(x[to + k])
        s2, t2 = fma(vload(w, i + 2 * LANES), a, s2), fma(vload(w, j + 2 * LANES), b, t2)
        s3, t3 = fma(vload(w, i + 3 * LANES), a, s3), fma(vload(w, j + 3 * LANES), b, t3)
    return s0, s1, s2, s3, t0, t1, t2, t3


@device
def store_last(gates: i64, z: f32p, i: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec) -> None:
    """The last `gates` of four vectors to where all four lie from z[i] on."""
    if gates == 4:
        vstore(z, i, s0)
    vstore(z, i + LANES, s1)
    vstore(z, i + 2 * LANES, s2)
    vstore(z, i + 3 * LANES, s3)


@device
def add_rows(gates: i64, rows: i64, n: i64, w: f32p, o: i64, x: f32p, z: f32p, zo: i64, z_row: i64) -> None:
    """One tile for all rows of x: the last `gates` of four sums, which lie in z, z_row elements apart from z[zo] on."""
    first = 4 - gates
    for row in range(0, rows - rows % 2, 2):
        i, j, at = zo + row * z_row, zo + (row + 1) * z_row, row * n
        s0, s1, s2, s3 = load_four(z, i)
        t0, t1, t2, t3 = load_four(z, j)
        s0, s1, s2, s3, t0, t1, t2, t3 = add_two(gates, first, n, w, o, o, x, at, at + n, s0, s1, s2, s3, t0, t1, t2, t3)
        store_last(gates, z, i, s0, s1, s2, s3)
        store_last(gates, z, j, t0, t1, t2, t3)
    if rows % 2 != 0:
        i = zo + (rows - 1) * z_row
        s0, s1, s2, s3 = load_four(z, i)
        s0, s1, s2, s3 = add(gates, first, n, w, o, x, (rows - 1) * n, s0, s1, s2, s3)
        store_last(gates, z, i, s0, s1, s2, s3)
