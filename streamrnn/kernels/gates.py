"""What a vector adds to the gates of 16 hidden units: the products of recurrent cells.

    x      [rows][n] from x[at] on
    w      [n][gates][16] from w[o] on, so that one pass reads it from first to last
    start  [rows][gates][16] from start[si] on, what the sums begin with
    z      [rows][gates][16] from z[zo] on, the sums; it may be `start`. Rows of both are z_row elements apart

Each gate is one chain of additions over k, whether rows come alone or in twos: its bits are the same.
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32p, i64
from streamrnn.kernels.simd import LANES, Vec, fma, one_register, splat, vload, vstore


@device
def two_rows(v: Vec, a: Vec, b: Vec, s: Vec, t: Vec) -> tuple[Vec, Vec]:
    """A gate's product for two rows."""
    return fma(v, a, s), fma(v, b, t)


@device
def add_two_gates(
    n: i64, w: f32p, o: i64, gates: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64, z_row: i64
) -> None:
    """Two neighbouring gates of `gates`, for two rows."""
    s0, s1 = vload(start, si), vload(start, si + LANES)
    t0, t1 = vload(start, si + z_row), vload(start, si + z_row + LANES)
    for k in range(n):
        i = o + gates * k * LANES
        a, b = splat(x[at + k]), splat(x[at + n + k])
        s0, t0 = two_rows(vload(w, i), a, b, s0, t0)
        s1, t1 = two_rows(vload(w, i + LANES), a, b, s1, t1)
    vstore(z, zo, s0)
    vstore(z, zo + LANES, s1)
    vstore(z, zo + z_row, t0)
    vstore(z, zo + z_row + LANES, t1)


@device
def one_row_of_four(n: i64, w: f32p, o: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64) -> None:
    """Four gates, for one row."""
    s0, s1 = vload(start, si), vload(start, si + LANES)
    s2, s3 = vload(start, si + 2 * LANES), vload(start, si + 3 * LANES)
    for k in range(n):
        i = o + 4 * k * LANES
        a = splat(x[at + k])
        s0 = fma(vload(w, i), a, s0)
        s1 = fma(vload(w, i + LANES), a, s1)
        s2 = fma(vload(w, i + 2 * LANES), a, s2)
        s3 = fma(vload(w, i + 3 * LANES), a, s3)
    vstore(z, zo, s0)
    vstore(z, zo + LANES, s1)
    vstore(z, zo + 2 * LANES, s2)
    vstore(z, zo + 3 * LANES, s3)


@device
def two_rows_of_four(n: i64, w: f32p, o: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64, z_row: i64) -> None:
    """Four gates, for two rows."""
    if not one_register():
        add_two_gates(n, w, o, 4, x, at, start, si, z, zo, z_row)
        add_two_gates(n, w, o + 2 * LANES, 4, x, at, start, si + 2 * LANES, z, zo + 2 * LANES, z_row)
        return
    su, zu = si + z_row, zo + z_row
    s0, t0 = vload(start, si), vload(start, su)
    s1, t1 = vload(start, si + LANES), vload(start, su + LANES)
    s2, t2 = vload(start, si + 2 * LANES), vload(start, su + 2 * LANES)
    s3, t3 = vload(start, si + 3 * LANES), vload(start, su + 3 * LANES)
    for k in range(n):
        i = o + 4 * k * LANES
        a, b = splat(x[at + k]), splat(x[at + n + k])
        s0, t0 = two_rows(vload(w, i), a, b, s0, t0)
        s1, t1 = two_rows(vload(w, i + LANES), a, b, s1, t1)
        s2, t2 = two_rows(vload(w, i + 2 * LANES), a, b, s2, t2)
        s3, t3 = two_rows(vload(w, i + 3 * LANES), a, b, s3, t3)
    vstore(z, zo, s0)
    vstore(z, zo + LANES, s1)
    vstore(z, zo + 2 * LANES, s2)
    vstore(z, zo + 3 * LANES, s3)
    vstore(z, zu, t0)
    vstore(z, zu + LANES, t1)
    vstore(z, zu + 2 * LANES, t2)
    vstore(z, zu + 3 * LANES, t3)


@device
def add_four_gates(
    rows: i64, n: i64, w: f32p, o: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64, z_row: i64
) -> None:
    """Four gates."""
    for pair in range(rows // 2):
        row = 2 * pair * z_row
        two_rows_of_four(n, w, o, x, at + 2 * pair * n, start, si + row, z, zo + row, z_row)
    if rows % 2 != 0:
        row = (rows - 1) * z_row
        one_row_of_four(n, w, o, x, at + (rows - 1) * n, start, si + row, z, zo + row)


@device
def one_row_of_three(n: i64, w: f32p, o: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64) -> None:
    """Three gates, for one row."""
    s0, s1, s2 = vload(start, si), vload(start, si + LANES), vload(start, si + 2 * LANES)
    for k in range(n):
        i = o + 3 * k * LANES
        a = splat(x[at + k])
        s0 = fma(vload(w, i), a, s0)
        s1 = fma(vload(w, i + LANES), a, s1)
        s2 = fma(vload(w, i + 2 * LANES), a, s2)
    vstore(z, zo, s0)
    vstore(z, zo + LANES, s1)
    vstore(z, zo + 2 * LANES, s2)


@device
def add_three_gates(
    rows: i64, n: i64, w: f32p, o: i64, x: f32p, at: i64, start: f32p, si: i64, z: f32p, zo: i64, z_row: i64
) -> None:
    """Three gates."""
    for pair in range(rows // 2):
        p, u = 2 * pair * z_row, (2 * pair + 1) * z_row
        ahead = at + 2 * pair * n
        s0, t0 = vload(start, si + p), vload(start, si + u)
        s1, t1 = vload(start, si + p + LANES), vload(start, si + u + LANES)
        s2, t2 = vload(start, si + p + 2 * LANES), vload(start, si + u + 2 * LANES)
        for k in range(n):
            i = o + 3 * k * LANES
            a, b = splat(x[ahead + k]), splat(x[ahead + n + k])
            s0, t0 = two_rows(vload(w, i), a, b, s0, t0)
            s1, t1 = two_rows(vload(w, i + LANES), a, b, s1, t1)
            s2, t2 = two_rows(vload(w, i + 2 * LANES), a, b, s2, t2)
        vstore(z, zo + p, s0)
        vstore(z, zo + p + LANES, s1)
        vstore(z, zo + p + 2 * LANES, s2)
        vstore(z, zo + u, t0)
        vstore(z, zo + u + LANES, t1)
        vstore(z, zo + u + 2 * LANES, t2)
    if rows % 2 != 0:
        row = (rows - 1) * z_row
        one_row_of_three(n, w, o, x, at + (rows - 1) * n, start, si + row, z, zo + row)
